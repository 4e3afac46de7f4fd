"""Read the rows of `allkit predict --out answers.csv`, and take from them what they allow.

python examples/read_answers.py answers.csv
python examples/read_answers.py              # makes a small table first
"""

import argparse
import csv
import tempfile
from collections import Counter
from pathlib import Path

import allkit


def read(path):
    """Return the rows, with numbers as numbers and lists as lists."""
    with Path(path).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        for name, text in row.items():
            if name == "probability" or name.startswith("p_"):
                row[name] = float(text) if text else None
            elif name in ("reasons", "reason_codes", "prediction_set"):
                row[name] = text.split(";") if text else []
    return rows


def summarise(rows):
    """Print what may be said: answers by verdict, and what has to be looked at and why."""
    print("verdicts:", dict(Counter(row["verdict"] for row in rows)))
    for row in rows:
        if row["verdict"] == "unreadable":
            print("no answer:", row["error"])
        elif row["verdict"] != "accepted":
            reasons = ", ".join(row["reasons"])
            print(f"{row['image']}: {row['label']}? {row['verdict']} ({reasons})")


def example(folder, backbone, weights):
    """Train on drawn smears, answer for four images and one that is missing; return the table."""
    data = allkit.Dataset.sample(24, groups=12, seed=0)
    trainer = allkit.Trainer(backbone=backbone, weights=weights, val=0.0)
    model = trainer.fit(data)
    images = [data.read(i) for i in range(4)]
    rows = [p.to_row(model.classes) for p in model.predict([*images, folder / "missing.png"])]
    path = folder / "answers.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({k: ";".join(v) if isinstance(v, list) else v for k, v in row.items()})
    return path


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", nargs="?", help="what `allkit predict --out` wrote, as CSV")
    parser.add_argument("--backbone", default="timm:test_resnet", help="see `allkit plugins`")
    parser.add_argument("--weights", default="none", help="a .safetensors file, default, or none")
    options = parser.parse_args(arguments)
    if options.table:
        summarise(read(options.table))
        return
    with tempfile.TemporaryDirectory() as folder:
        summarise(read(example(Path(folder), options.backbone, options.weights)))


if __name__ == "__main__":
    main()
