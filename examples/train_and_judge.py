"""Train and judge honestly: whole slides are held out, and every figure stands with its caution."""

import tempfile
from pathlib import Path

import allkit

data = allkit.Dataset.sample(
    48, groups=24, seed=0
)  # yours: allkit.Dataset.open("smears/index.csv")
print(data.summary())

trainer = allkit.Trainer(backbone="timm:test_resnet", weights="none", epochs=5)  # "vgg16"
for by in ("group", "image"):
    train, test = data.split(test=0.34, by=by, seed=0)
    model = trainer.fit(train)
    result = model.evaluate(test)
    low, high = result.intervals["accuracy"]
    print(f"\ndivided by {by}: accuracy {result.accuracy:.2f} ({low:.2f} to {high:.2f})")
    print(f"accepted / review / refused: {'/'.join(map(str, result.verdicts.values()))}")
    for note in result.notes:
        print("caution:", note)

# What a classifier gets that sees no cells: a model is worth what it has above that.
audit = allkit.audit(data)
best = audit.probes[0]
print(f"\n{best.name} alone: {best.balanced_accuracy:.2f} ({best.low:.2f} to {best.high:.2f})")
print(audit.message)

with tempfile.TemporaryDirectory() as folder:
    model.save(Path(folder) / "model")
    again = allkit.Classifier.load(Path(folder) / "model")
for answer in again.predict([data.read(i) for i in range(3)]):
    print(answer.image, answer.label, f"{answer.probability:.2f}", answer.verdict)
