"""Read the rows of `allkit predict --out answers.csv`, and take from them what they allow.

python examples/read_answers.py answers.csv
python examples/read_answers.py              # makes a small table first
"""

import csv
import sys
import tempfile
from collections import Counter
from pathlib import Path


def example(folder):
    """Train on drawn smears, answer for four images and one that is missing; return the table."""
    import allkit

    data = allkit.Dataset.sample(24, groups=12, seed=0)
    model = allkit.Trainer(backbone="timm:test_resnet", weights="none", val=0.0).fit(data)
    images = [data.read(i) for i in range(4)]
    rows = [p.to_row(model.classes) for p in model.predict([*images, folder / "missing.png"])]
    with (folder / "answers.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({k: ";".join(v) if isinstance(v, list) else v for k, v in row.items()})
    return folder / "answers.csv"


with tempfile.TemporaryDirectory() as place:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else example(Path(place))
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
print("verdicts:", dict(Counter(row["verdict"] for row in rows)))
for row in rows:
    if row["verdict"] == "unreadable":
        print("no answer:", row["error"])
    elif row["verdict"] != "accepted":  # a label, but not one to be used without a look
        print(f"{row['image']}: {row['label']}? {row['verdict']} ({row['reasons']})")
