"""Labels that look wrong: where a classifier that did not see an image disagrees with its label."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from allkit.data.dataset import Dataset
from allkit.errors import DatasetError
from allkit.evaluation.shortcuts import too_few
from allkit.features import Extractor, FeatureCache
from allkit.network.hashes import weights_hash
from allkit.network.modules import build_backbone
from allkit.plugins import registry, resolve_weights
from allkit.types import Progress

__all__ = ["label_suspects"]


def label_suspects(
    data: Dataset,
    backbone: str,
    *,
    weights: str = "default",
    progress: Progress | None = None,
    seed: int = 0,
) -> list[tuple[int, str, float]]:
    """Return (position, more likely class, probability of the given label), most suspect first.

    A linear classifier on the features of a frozen backbone gives each image probabilities while
    it and its relatives are held out; cleanlab's confident learning (Northcutt et al. 2021)
    compares them with the labels. Raises `DatasetError` when a class has fewer than two groups.
    """
    from cleanlab.filter import find_label_issues

    labels, units = data.labels, data.fields
    reason = too_few(labels, units, data.classes)
    if reason:
        raise DatasetError(f"Labels of {data.name} cannot be checked: {reason}.")
    record = registry().get("backbone", backbone)
    provider = registry().provider("backbone", backbone)
    network = build_backbone(record, resolve_weights(record.name, weights), provider.origin)
    chosen = registry().reference("backbone", backbone).settings_text
    name = record.name + chosen
    identity = (name, provider.distribution, provider.mark, weights_hash(network))
    import torch

    extractor = Extractor(
        network, record.input, identity, torch.device("cpu"), cache=FeatureCache()
    )
    features = extractor.extract(data, progress=progress, label="features")
    present, kind = np.unique(labels, return_inverse=True)
    chances = _held_out(features, kind, units, seed)
    suspects = find_label_issues(
        kind, chances, return_indices_ranked_by="self_confidence", n_jobs=1
    )
    return [
        (int(i), data.classes[present[int(chances[i].argmax())]], float(chances[i, kind[i]]))
        for i in suspects
    ]


def _held_out(
    features: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    units: npt.NDArray[np.int64],
    seed: int,
) -> npt.NDArray[np.float64]:
    """Return the probabilities `(N, K)` of a classifier that learnt from no related image."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    least = min(len(np.unique(units[labels == c])) for c in np.unique(labels))
    divider = StratifiedGroupKFold(max(2, min(5, least)), shuffle=True, random_state=seed)
    roots = np.sign(features) * np.sqrt(np.abs(features))
    chances = np.zeros((len(labels), int(labels.max()) + 1))
    for learn, test in divider.split(roots, labels, units):
        # Strongly regularised, so that it cannot memorise wrong labels.
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
        model.fit(roots[learn], labels[learn])
        chances[np.ix_(test, model.classes_)] = model.predict_proba(roots[test])
    return chances
