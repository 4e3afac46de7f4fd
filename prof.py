import time

import allkit


def t(label, f):
    a = time.process_time()
    r = f()
    print(label, round(time.process_time() - a, 2))
    return r


data = t("sample48", lambda: allkit.Dataset.sample(48, groups=24, seed=0))
d = t("split", lambda: data.split(test=0.34, by="group", seed=0))
tr = allkit.Trainer(backbone="timm:test_resnet", weights="none")
m = t("fit", lambda: tr.fit(d.train))
r = t("evaluate", lambda: m.evaluate(d.test))
r = t("str", lambda: str(r))
data = t("sample24", lambda: allkit.Dataset.sample(24, groups=12, seed=0))
m = t("fit24", lambda: tr.fit(data))
t("explain", lambda: m.explain(data.read(0)))
t("export", lambda: m.export("/tmp/pk/zz.onnx", overwrite=True))
