"""Ask why a model answered so, and whether that explanation can be believed."""

import tempfile
from pathlib import Path

import allkit

data = allkit.Dataset.sample(24, groups=12, seed=0)
train, test = data.split(test=0.34, by="group", seed=0)
model = allkit.Trainer(backbone="timm:test_resnet", weights="none", epochs=5).fit(train)

field = test.read(0)
answer = model.predict(field)[0]
print(f"{answer.label}, probability {answer.probability:.2f}, {answer.verdict}")
for code in answer.reason_codes:
    print(f"  {code}: {allkit.reason_sentence(code)}")

for method in ("cells", "occlusion"):
    explanation = model.explain(field, method=method)
    print(f"\n{method}, for {explanation.label}:")
    if explanation.faithfulness is not None:
        print(explanation.faithfulness.in_words())  # measured by covering what the map marks
    with tempfile.TemporaryDirectory() as folder:
        picture = explanation.save(Path(folder) / f"{method}.png")
        print(f"{picture.name}: {picture.stat().st_size:,} bytes")
