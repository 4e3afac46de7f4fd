"""Adapt a model to the slides of a laboratory, and read whether it may be said that it helped."""

import allkit

tiny = {"backbone": "timm:test_resnet", "weights": "none", "epochs": 5}  # yours: backbone="vgg16"
elsewhere = allkit.Dataset.sample(48, groups=12, seed=0)
model = allkit.Trainer(**tiny).fit(elsewhere)

# Five to twenty labelled fields of each class, better from several slides than from one.
ours = allkit.Dataset.sample(32, groups=16, seed=5)
labelled = ours.split(test=0.5, by="group", seed=0)
adapted = allkit.adapt(model, labelled.train)

record = adapted.info.adaptations[-1]
print(record.to_text())  # before and after, on groups that were not adapted with
print(f"What may be claimed: {record.claim}")

for name, one in (("before", model), ("after", adapted)):
    result = one.evaluate(labelled.test)
    low, high = result.intervals["accuracy"]
    print(f"{name}: accuracy on our other slides {result.accuracy:.2f} ({low:.2f} to {high:.2f})")
