"""Answer for a folder on a Ray cluster, slide by slide. Needs allkit[train,ray].

python examples/batch_on_ray.py          # starts a cluster on this machine, and stops it
RAY_ADDRESS=head:6379 python examples/batch_on_ray.py
python examples/batch_on_ray.py local    # without Ray: the same table
"""

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

import allkit
from allkit.data.drawn import write_smears

engine = sys.argv[1] if len(sys.argv) > 1 else "ray"
with tempfile.TemporaryDirectory() as place:
    folder = Path(place)
    table = write_smears(folder / "smears", 24, groups=12, seed=0)
    trainer = allkit.Trainer(backbone="timm:test_resnet", weights="none", epochs=5)
    trainer.fit(allkit.Dataset.open(table)).export(folder / "model.onnx")

    # The command keeps the order, writes in parts, and goes on where it was stopped. On a cluster
    # of several machines, model and images must lie under the same paths on each.
    command = ["predict", folder / "model.onnx", table, "--engine", engine]
    answers = folder / "answers.csv"
    subprocess.run([sys.executable, "-m", "allkit", *command, "--out", answers], check=True)
    with answers.open(newline="", encoding="utf-8") as stream:
        for row in list(csv.DictReader(stream))[:5]:
            print(Path(row["image"]).name, row["label"], row["probability"], row["verdict"])
