"""Write a model as one ONNX file that needs neither allkit nor PyTorch where it is used.

python examples/export_model.py
python examples/export_model.py model.onnx      # keeps the file, for run_without_allkit.py
"""

import json
import sys
import tempfile
from pathlib import Path

import allkit
from allkit.telemetry import import_silent

data = allkit.Dataset.sample(24, groups=12, seed=0)  # drawn smears; yours: Dataset.open("smears")
split = data.split(test=0.34, by="group", seed=0)

# `bag="field"`: the network sees the field, not the cells in it, so that the file needs pixels only.
# A model of cells answers better on slides that it never saw, but somebody has to find the cells.
trainer = allkit.Trainer(backbone="timm:test_resnet", weights="none", epochs=5, bag="field")
model = trainer.fit(split.train)

with tempfile.TemporaryDirectory() as folder:
    path = Path(sys.argv[1] if len(sys.argv) > 1 else f"{folder}/model.onnx")
    parity = model.export(path, check=split.test)
    print(f"{parity.same_class} of {parity.images} answers have the same class as the model's;")
    print(f"probabilities differ by {parity.difference:.1g} at most. The file is kept only if so.")

    onnxruntime = import_silent("onnxruntime")  # with its reports to its makers off
    session = onnxruntime.InferenceSession(str(path))
    for one in (*session.get_inputs(), *session.get_outputs()):
        print(f"  {one.name:14} {one.type:14} {len(one.shape)} dimensions")
    description = json.loads(session.get_modelmeta().custom_metadata_map["allkit"])
    print({name: description[name] for name in ("classes", "bag", "precision", "format")})
