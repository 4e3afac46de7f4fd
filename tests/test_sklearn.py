"""The form of scikit-learn: what its users do with an estimator works on images."""

import pickle  # noqa: TID251 - an estimator is sent to other processes
import warnings

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator
from sklearn.utils.validation import check_is_fitted, validate_data

import allkit
from allkit.errors import AllkitError, ConfigError
from allkit.sklearn import InputError, SmearClassifier

SETTINGS = {
    "backbone": "timm:test_resnet",
    "weights": "none",
    "calibration_folds": 0,
    "view": "rgb",
    "bag": "field",
    "cache": None,
}


@pytest.fixture(scope="module")
def smears(few):
    """Images `(24, H, W, 3)` uint8, labels, and groups."""
    data = allkit.Dataset.open(few)
    images = np.stack([data.read(index) for index in range(len(data))])
    return images, np.array(data.labels), np.array([sample.group for sample in data])


@pytest.fixture(scope="module")
def fitted(smears):
    images, labels, groups = smears
    return SmearClassifier(**SETTINGS).fit(images, labels, groups=groups)


def test_it_answers_as_a_classifier_of_scikit_learn(fitted, smears):
    images, labels, _ = smears
    probabilities = fitted.predict_proba(images)
    assert probabilities.shape == (24, 4)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert fitted.classes_.tolist() == [0, 1, 2, 3]
    assert (fitted.predict(images) == fitted.classes_[probabilities.argmax(axis=1)]).all()
    assert fitted.score(images, labels) == (fitted.predict(images) == labels).mean()
    assert set(fitted.verdicts(images)) <= {"accepted", "review", "refused"}
    assert isinstance(fitted.model_, allkit.Classifier)


def test_it_is_the_classifier_that_the_trainer_makes(fitted, few):
    data = allkit.Dataset.open(few)
    model = allkit.Trainer(**SETTINGS).fit(data)
    images = [data.read(0), data.read(9)]
    np.testing.assert_allclose(
        fitted.predict_proba(images), model.probabilities(images), rtol=1e-4, atol=1e-5
    )


def test_paths_samples_and_a_set_are_images_as_well(fitted, smears, few):
    data = allkit.Dataset.open(few)
    paths = [str(sample.source.path) for sample in data][:3]
    expected = fitted.predict_proba(smears[0][:3])
    for images in (
        paths,
        np.array(paths),
        list(data)[:3],
        data.subset(range(3)),
        list(smears[0][:3]),
    ):
        np.testing.assert_allclose(fitted.predict_proba(images), expected, rtol=1e-5)


def test_a_pickled_copy_answers_the_same(fitted, smears):
    copied = pickle.loads(pickle.dumps(fitted))  # noqa: S301 - our own
    assert (copied.predict_proba(smears[0][:4]) == fitted.predict_proba(smears[0][:4])).all()
    assert copied.get_params() == fitted.get_params()


def test_parameters_are_those_of_the_trainer():
    model = SmearClassifier(backbone="vgg16", head_penalty=0.3)
    assert repr(model) == "SmearClassifier(backbone='vgg16', head_penalty=0.3)"
    params = model.get_params()
    assert set(allkit.config.TrainConfig.model_fields) < set(params)
    assert clone(model).get_params() == params
    assert model.set_params(members=3).settings == {
        "backbone": "vgg16", "head_penalty": 0.3, "members": 3,
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"no parameter 'random_state'.*Did you mean 'seed'"):
        model.set_params(random_state=1)
    with pytest.raises(ConfigError, match="Did you mean 'learning_rate'"):
        SmearClassifier(lr=0.1)
    with pytest.raises(NotFittedError):
        model.predict([np.zeros((64, 64, 3), np.uint8)])


def test_scores_by_groups_and_a_search_over_settings(smears, few):
    images, labels, groups = smears
    data = allkit.Dataset.open(few)
    with sklearn.config_context(enable_metadata_routing=True):
        model = SmearClassifier(**SETTINGS).set_fit_request(groups=True)
        # A set is indexed as a list is, and knows its groups.
        scores = cross_val_score(model, data, labels, params={"groups": groups}, cv=GroupKFold(2))
        assert scores.shape == (2,)
        assert np.isfinite(scores).all()
        search = GridSearchCV(model, {"head_penalty": [0.01, 1.0]}, cv=GroupKFold(2), refit=False)
        search.fit(images, labels, groups=groups)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_params_["head_penalty"] in (0.01, 1.0)


def test_fit_divides_by_the_groups_that_it_is_given(smears, monkeypatch):
    images, labels, groups = smears
    seen = []
    monkeypatch.setattr(
        allkit.training.trainer.Trainer, "fit", lambda self, train: seen.append(train)
    )
    SmearClassifier(**SETTINGS).fit(images, labels, groups=groups)
    SmearClassifier(**SETTINGS).fit(images, labels)
    assert [sample.group for sample in seen[0]] == groups.tolist()
    assert not seen[1].has_groups


@pytest.mark.parametrize(
    "labels",
    [["x", "y"] * 12, [True, False] * 12, [("a", 1), ("a", 2)] * 12, [1, "1"] * 12],
    ids=["text", "truth values", "tuples", "mixed"],
)
def test_labels_may_be_anything_that_has_a_hash(smears, labels, monkeypatch):
    kept = []
    monkeypatch.setattr(
        allkit.training.trainer.Trainer, "fit", lambda self, train: kept.append(train)
    )
    model = SmearClassifier(**SETTINGS).fit(smears[0], labels)
    assert set(model.classes_.tolist()) == set(labels)
    of_classes = dict(zip(kept[0].classes, model.classes_.tolist(), strict=True))
    assert [of_classes[sample.label] for sample in kept[0]] == labels


@pytest.mark.parametrize(
    ("images", "labels", "groups", "message"),
    [
        ("folder", [1], None, r"X is 'folder'\. Give a list of paths.*Dataset\.open"),
        (np.zeros((64, 64, 3), np.uint8), [1], None, r"for one image give \[image\]"),
        (np.zeros((2, 64, 64, 3)), [0, 1], None, "Image 0 of X is float64"),
        (np.zeros((2, 64, 64, 3), np.uint8), [0], None, "y has 1 values for 2 images"),
        (np.zeros((2, 64, 64, 3), np.uint8), [0, 1], [1], "groups has 1 values for 2 images"),
        (np.zeros((2, 64, 64, 3), np.uint8), [0, 0], None, "one class only"),
        (np.zeros((2, 64, 64, 3), np.uint8), [0.5, 1.5], None, "Unknown label type"),
        (np.zeros((2, 64, 64, 3), np.uint8), [0.0, np.nan], None, "missing, NaN or inf"),
        ([], [], None, "holds no images"),
        (["a.png", "b.png"], None, None, "Labels are missing"),
    ],
)
def test_what_cannot_be_used_is_an_error_of_both_houses(images, labels, groups, message):
    with pytest.raises(InputError, match=message) as raised:
        SmearClassifier().fit(images, labels, groups)
    assert isinstance(raised.value, ValueError)
    assert isinstance(raised.value, AllkitError)


def test_images_that_cannot_be_read_are_an_error_of_both_houses(fitted):
    with pytest.raises(InputError, match=r"nope\.png"):
        fitted.predict(["nope.png"])
    with pytest.raises(InputError, match=r"nope\.png"):
        SmearClassifier(**SETTINGS).fit(["nope.png", "a.png", "b.png", "c.png"], [0, 0, 1, 1])


def test_groups_that_cannot_be_divided_are_an_error_of_both_houses(smears):
    images, labels, _ = smears
    with pytest.raises(InputError):
        SmearClassifier(**SETTINGS).fit(images, labels, groups=[1] * 24)


def test_an_unknown_parameter_is_an_error_of_both_houses():
    for call in (SmearClassifier().set_params, SmearClassifier):
        with pytest.raises(ValueError, match="no parameter 'foo'") as raised:
            call(foo=1)
        assert isinstance(raised.value, ConfigError)


def test_groups_that_do_not_reach_the_fit_are_told_once_with_the_remedy(smears, monkeypatch):
    images, labels, groups = smears
    monkeypatch.setattr(allkit.sklearn, "_said", [])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = SmearClassifier(**SETTINGS)
        cross_val_score(model, images, labels, groups=groups, cv=GroupKFold(2))
    of_groups = [str(one.message) for one in told if "groups" in str(one.message)]
    assert len(of_groups) == 1
    assert "set_fit_request(groups=True)" in of_groups[0]
    assert 'params={"groups": g}' in of_groups[0]


class OfTables(SmearClassifier):
    """The same on pictures of rows of numbers: the checks of scikit-learn know tables alone."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.string = True, False
        return tags

    def fit(self, X, y=None, groups=None):
        return super().fit(pictures(validate_data(self, X)), y, groups)

    def predict(self, X):
        return super().predict(self.rows(X))

    def predict_proba(self, X):
        return super().predict_proba(self.rows(X))

    def rows(self, X):
        check_is_fitted(self)
        return pictures(validate_data(self, X, reset=False))


def pictures(rows):
    """Return a picture of 48 × 48 pixels of each row: nine fields with its numbers as their colours."""
    colours = [
        (np.resize(1 / (1 + np.exp(-row)), (3, 3, 3)) * 255).astype(np.uint8) for row in rows
    ]
    return [np.kron(colour, np.ones((16, 16, 1), np.uint8)) for colour in colours]


FAILING = {}
"""The checks of scikit-learn that fail, each with the reason."""
QUICK = (
    "check_estimator_cloneable", "check_estimator_repr", "check_no_attributes_set_in_init",
    "check_parameters_default_constructible", "check_get_params_invariance", "check_set_params",
    "check_estimators_unfitted", "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimators_nan_inf", "check_supervised_y_no_nan", "check_classifiers_one_label",
    "check_classifiers_regression_target", "check_classifier_data_not_an_array",
)  # fmt: skip


def estimator():
    return OfTables(**SETTINGS, val=0.0)


def failed(results):
    return {result["check_name"] for result in results if result["status"] == "failed"}


def test_the_quick_checks_of_scikit_learn_fail_for_known_reasons_only():
    found = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one, check in estimator_checks_generator(estimator()):
            name = check.func.__name__
            if name in QUICK:
                try:
                    check(one)
                except Exception:  # noqa: BLE001 - whatever a check finds
                    found.add(name)
    assert found == set(FAILING) & set(QUICK)


@pytest.mark.nightly
@pytest.mark.slow
def test_the_checks_of_scikit_learn_fail_for_known_reasons_only():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator(), on_fail=None, on_skip=None)
    assert len(results) > 50
    assert failed(results) == set(FAILING)
