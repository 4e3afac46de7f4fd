"""The worst answers of a model, each with its picture and the reason, on one page.

python examples/error_gallery.py                # prints them
python examples/error_gallery.py gallery.html   # and keeps the page
"""

import sys
import tempfile
from pathlib import Path

import allkit

data = allkit.Dataset.sample(48, groups=24, seed=0)
train, test = data.split(test=0.5, by="group", seed=0)
trainer = allkit.Trainer(backbone="timm:test_resnet", weights="none", epochs=5)
result = trainer.fit(train).evaluate(test)

# Wrong and accepted first: these are the answers that nobody would have looked at again.
for image in result.worst(6):
    print(f"{image.name}: is {image.label}, answered {image.predicted}", image.why)
print(f"{len(result.misclassified)} of {result.n} are wrong")
print(result.confusion())
print(result.to_frame().groupby("group")["right"].mean().to_string())  # slide by slide

with tempfile.TemporaryDirectory() as folder:
    page = Path(sys.argv[1] if len(sys.argv) > 1 else f"{folder}/gallery.html")
    result.to_html(page, title="Errors on drawn smears")
    print(f"{page.name}: {page.stat().st_size:,} bytes, to be opened in any browser")
