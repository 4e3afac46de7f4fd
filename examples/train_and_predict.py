"""Divide, train, judge, save, load, answer: the whole job on drawn smears, in seconds.

python examples/train_and_predict.py
python examples/train_and_predict.py --backbone vgg16 --weights vgg16.safetensors
"""

import argparse
import tempfile
from pathlib import Path

import allkit


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="timm:test_resnet", help="see `allkit plugins`")
    parser.add_argument("--weights", default="none", help="a .safetensors file, default, or none")
    options = parser.parse_args(arguments)

    data = allkit.Dataset.sample(24, groups=12, seed=0)
    split = data.split(test=0.34, by="group", seed=0)
    print(data)

    trainer = allkit.Trainer(backbone=options.backbone, weights=options.weights)
    model = trainer.fit(split.train)

    result = model.evaluate(split.test)
    low, high = result.intervals["accuracy"]
    print(f"accuracy {result.accuracy:.2f} ({low:.2f} to {high:.2f}), n = {result.n}")
    for note in result.notes:
        print("caution:", note)

    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model")
        again = allkit.Classifier.load(Path(folder) / "model")
    for answer in again.predict([split.test.read(i) for i in range(3)]):
        print(answer.image, answer.label, f"{answer.probability:.2f}", answer.verdict)


if __name__ == "__main__":
    main()
