"""Ask why a model answered so, and whether that explanation can be believed."""

import tempfile
from pathlib import Path

import allkit

data = allkit.Dataset.sample(24, groups=12, seed=0)
train, test = data.split(test=0.34, by="group", seed=0)

# By default a network sees the field and each white cell; "field" leaves the cells out.
for bag in ("both", "field"):
    model = allkit.Trainer(backbone="timm:test_resnet", weights="none", bag=bag).fit(train)
    explanation = model.explain(test.read(0))

    print(f"\nbag = {bag}: {explanation.method}")
    print("\n".join(explanation.lines(model.info.display_names)))
    if explanation.check is not None:  # measured by covering what the map marks
        print(f"deletion {explanation.check.deletion:.2f}", end=", by chance ")
        print(f"{explanation.check.deletion_random:.2f} (lower is better)")
    for code in explanation.answer.reason_codes:
        print(f"  {code}: {allkit.reason_sentence(code)}")
    with tempfile.TemporaryDirectory() as folder:
        picture = explanation.save(Path(folder) / "why.png")
        print(f"{picture.name}: {picture.stat().st_size:,} bytes")
