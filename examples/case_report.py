"""A case from its order to a signed report, as PDF and HL7. Needs allkit[train,clinic]."""

import tempfile
from pathlib import Path

import allkit
from allkit.clinic import access, cases, fields, models, reading, signing
from allkit.clinic.intake.incoming import take_image
from allkit.clinic.records import Specimen
from allkit.clinic.reports.formats import render
from allkit.clinic.store.store import Store
from allkit.clinic.view import open_case
from allkit.clinic.worker import Worker
from allkit.data.drawn import as_png, draw_smears

model = allkit.Trainer(backbone="timm:test_resnet", weights="none", epochs=5).fit(
    allkit.Dataset.sample(24, groups=12, seed=0)
)
with tempfile.TemporaryDirectory() as place, Store.create(Path(place) / "clinic") as store:
    anna = access.first_person(store, "anna", "Dr. Anna Berg")
    models.add_model(anna, model.save(Path(place) / "model"), model)

    case = cases.create(anna, specimen_=Specimen("blood", "2026-01-31", "Giemsa"), patient="P-1")
    smear = [field for field in draw_smears(8, groups=4, seed=1) if field.label == "Pre"]
    files = [take_image(as_png(f).read(), f"field {i}.png") for i, f in enumerate(smear)]
    fields.add(anna, case, files)
    Worker(access.worker(store), allkit.Classifier.load).drain()

    for field in open_case(anna, case).fields:
        print(f"field {field.number}: {field.answer.label}? {field.answer.verdict}")
        reading.relabel(anna, field.id, "Pre", why="seen under the microscope")
    reading.finish(anna, case)
    asked = signing.to_sign(anna, case)
    said = signing.Statement("Pre", "A drawn case.", refused=asked.refused, limits_read=True)
    report = signing.sign(anna, case, said)
    for name in ("pdf", "hl7"):
        data = render(report, name, image_of=store.blobs.get)
        print(
            f"{name}: {len(data):,} bytes, version {report.version}, signed by {report.signer.display}"
        )
