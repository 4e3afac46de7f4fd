"""Train and judge honestly: whole slides are held out, and every figure stands with its caution."""

import tempfile
from pathlib import Path

import allkit

data = allkit.Dataset.sample(
    48, groups=24, seed=0
)  # yours: allkit.Dataset.open("smears/index.csv")
print(data.summary())

# By group: no slide is on two sides. `by="image"` is what inflates published figures; the result
# would say so.
train, test = data.split(test=0.34, by="group", seed=0)
model = allkit.Trainer(backbone="timm:test_resnet", weights="none").fit(train)  # yours: "vgg16"
result = model.evaluate(test)

low, high = result.intervals["accuracy"]
print(f"\naccuracy {result.accuracy:.2f}, 95 % interval over slides {low:.2f} to {high:.2f}")
for note in result.notes:
    print("caution:", note)

# Everything, with the strongest shortcut: what a classifier gets that sees no cells.
print(f"\n{result}")

with tempfile.TemporaryDirectory() as folder:
    model.save(Path(folder) / "model")
    again = allkit.Classifier.load(Path(folder) / "model")
for answer in again.predict(test[:3]):
    print(answer.image, answer.label, f"{answer.probability:.2f}", answer.verdict)
