"""The steps of scikit-learn as modules: affine maps with what turns them into probabilities, choices, and trees.

Affine steps that follow each other become one: a scaler, a PCA and an LDA are one product. All in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from filter_steps import CURE  # type: ignore[import-not-found]
from riemann_steps import refuse, tensor  # type: ignore[import-not-found]
from torch import Tensor, nn

__all__ = ["REGRESSORS", "STEPS", "Affine", "Chosen", "Trees", "head_of", "is_forest", "linked"]


def linked(z: Tensor, link: str) -> Tensor:
    """Return what a linear model makes of its scores (..., k).

    Parameters
    ----------
    z : Tensor
        Scores.
    link : str
        ``"none"``; ``"pair"``: the sigmoid of one score and its complement; ``"softmax"``; ``"rest"``: sigmoids over
        their sum (one class against the rest).
    """
    if link == "pair":
        p = torch.sigmoid(z)
        return torch.cat([1.0 - p, p], dim=-1)
    if link == "softmax":
        return torch.softmax(z, -1)
    if link == "rest":
        p = torch.sigmoid(z)
        return p / p.sum(-1, keepdim=True)
    return z


class Affine(nn.Module):  # type: ignore[misc]
    """(..., n) to (..., k): ``link((x - center) weight + bias)``.

    Parameters
    ----------
    center, weight, bias : ndarray
        (n,), (n, k) or (n,) for a diagonal, (k,); with a first axis for the members of an ensemble, m of each.
    link : str
        See `linked`.
    """

    center: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, center: Any, weight: Any, bias: Any, link: str = "none") -> None:
        super().__init__()
        self.link = link
        for name, values in (("center", center), ("weight", weight), ("bias", bias)):
            self.register_buffer(name, tensor(values))
        self.diagonal = self.weight.ndim == 1
        self.members = self.weight.shape[0] if self.weight.ndim == 3 else 0

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, k), or (batch, m, k)."""
        x = x - self.center
        if self.members:
            return linked(torch.matmul(x.unsqueeze(-2), self.weight).squeeze(-2) + self.bias, self.link)
        return linked((x * self.weight if self.diagonal else torch.matmul(x, self.weight)) + self.bias, self.link)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return center, weight (n, k) and bias."""
        weight = self.weight.numpy()
        return self.center.numpy(), np.diag(weight) if self.diagonal else weight, self.bias.numpy()

    def followed_by(self, other: Affine) -> Affine:
        """Return both as one."""
        center, weight, bias = self.center.numpy(), self.weight.numpy(), self.bias.numpy()
        after = other.weight.numpy()
        if other.diagonal:
            both = weight * after
        elif self.diagonal:
            both = weight[:, None] * after
        else:
            both = weight @ after
        shifted = bias - other.center.numpy()
        bias = (shifted * after if other.diagonal else shifted @ after) + other.bias.numpy()
        return Affine(center, both, bias, other.link)


class Chosen(nn.Module):  # type: ignore[misc]
    """Entries of an axis by their index."""

    index: Tensor

    def __init__(self, index: Any, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.register_buffer("index", torch.tensor(np.asarray(index, dtype=np.int64)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the chosen entries."""
        return torch.index_select(x, self.axis, self.index)


class Function(nn.Module):  # type: ignore[misc]
    """A function of each number, or the layout as one axis."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        """Return the function of x."""
        return x.flatten(1) if self.name == "flatten" else FUNCTIONS[self.name](x)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "log": torch.log, "sqrt": torch.sqrt, "absolute": torch.abs, "square": torch.square, "exp": torch.exp,
}  # fmt: skip


class Trees(nn.Module):  # type: ignore[misc]
    """Decision trees as tables, all walked at once: the mean of their leaves.

    Parameters
    ----------
    trees : sequence
        Fitted ``tree_`` objects of scikit-learn.
    classify : bool
        Leaves hold shares of classes.
    """

    def __init__(self, trees: Sequence[Any], *, classify: bool) -> None:
        super().__init__()
        counts = [tree.node_count for tree in trees]
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        leaf = [tree.children_left < 0 for tree in trees]
        places = [np.arange(tree.node_count) for tree in trees]

        def table(part: Callable[[int], np.ndarray]) -> Tensor:
            return torch.tensor(np.concatenate([part(i) for i in range(len(trees))]))

        def children(i: int, side: str) -> np.ndarray:
            kept: np.ndarray = np.where(leaf[i], places[i], getattr(trees[i], side)) + starts[i]
            return kept.astype(np.int32)

        self.depth = max(int(tree.max_depth) for tree in trees)
        self.register_buffer("roots", torch.tensor(starts[None, :].astype(np.int64)))
        self.register_buffer("feature", table(lambda i: np.where(leaf[i], 0, trees[i].feature).astype(np.int32)))
        self.register_buffer("threshold", table(lambda i: trees[i].threshold.astype(np.float64)))
        self.register_buffer("left", table(lambda i: children(i, "children_left")))
        self.register_buffer("right", table(lambda i: children(i, "children_right")))
        values = np.concatenate([tree.value[:, 0, :] for tree in trees])
        self.register_buffer("values", tensor(values / values.sum(-1, keepdims=True) if classify else values))

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, k) for x (batch, n); scikit-learn compares features in float32 with thresholds in float64."""
        x = x.float().double()
        node = self.roots.expand(x.shape[0], -1)
        for _ in range(self.depth):
            taken = torch.gather(x, 1, self.feature[node].long()) <= self.threshold[node]
            node = torch.where(taken, self.left[node].long(), self.right[node].long())
        y = self.values[node].mean(1)
        bad = torch.isnan(x).double().amax(-1, keepdim=True) > 0
        return torch.where(bad, torch.full_like(y, float("nan")), y)


def _standard(step: Any) -> nn.Module:
    n = step.n_features_in_
    mean = step.mean_ if step.with_mean else np.zeros(n)
    return Affine(mean, 1.0 / step.scale_ if step.with_std else np.ones(n), np.zeros(n))


def _robust(step: Any) -> nn.Module:
    n = step.n_features_in_
    center = step.center_ if step.with_centering else np.zeros(n)
    return Affine(center, 1.0 / step.scale_ if step.with_scaling else np.ones(n), np.zeros(n))


def _min_max(step: Any) -> nn.Module:
    if step.clip:
        raise refuse(step, "has clip=True")
    return Affine(np.zeros(step.n_features_in_), step.scale_, step.min_)


def _pca(step: Any) -> nn.Module:
    weight = step.components_.T
    if step.whiten:
        weight = weight / np.sqrt(step.explained_variance_)
    return Affine(step.mean_, weight, np.zeros(weight.shape[1]))


def _lda_projection(step: Any) -> nn.Module:
    if step.solver == "lsqr":
        raise refuse(step, "has solver='lsqr', which does not transform")
    weight = step.scalings_[:, : step._max_components]
    center = step.xbar_ if step.solver == "svd" else np.zeros(len(weight))
    return Affine(center, weight, np.zeros(weight.shape[1]))


def _selected(step: Any) -> nn.Module:
    return Chosen(step.get_support(indices=True), 1)


def _function(step: Any) -> nn.Module:
    function = step.func
    if step.kw_args:
        raise refuse(step, f"calls its function with {step.kw_args}")
    if function is None:
        return nn.Identity()
    name = getattr(function, "__name__", "")
    if name in FUNCTIONS and getattr(np, name, None) is function:
        return Function(name)
    raise refuse(
        step, f"calls {function!r}; numpy's {', '.join(FUNCTIONS)}, and filters that are known, have a graph", CURE
    )


STEPS: dict[str, Callable[[Any], nn.Module]] = {
    "sklearn.StandardScaler": _standard,
    "sklearn.RobustScaler": _robust,
    "sklearn.MinMaxScaler": _min_max,
    "sklearn.MaxAbsScaler": lambda s: Affine(np.zeros(len(s.scale_)), 1.0 / s.scale_, np.zeros(len(s.scale_))),
    "sklearn.PCA": _pca,
    "sklearn.LinearDiscriminantAnalysis": _lda_projection,
    "sklearn.FunctionTransformer": _function,
    "mne.Vectorizer": lambda step: Function("flatten"),
    "pyriemann.ElectrodeSelection": lambda step: _electrodes(step),
} | {
    f"sklearn.{name}": _selected
    for name in ("SelectKBest", "SelectPercentile", "SelectFdr", "SelectFpr", "SelectFwe", "SelectFromModel",
                 "VarianceThreshold", "RFE", "RFECV")
}  # fmt: skip
"""Library and class of a step that transforms to what makes its module."""


class Electrodes(nn.Module):  # type: ignore[misc]
    """Rows and columns of matrices by their index."""

    index: Tensor

    def __init__(self, index: Any) -> None:
        super().__init__()
        self.register_buffer("index", torch.tensor(np.asarray(index, dtype=np.int64)))

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, m, m) of (batch, n, n)."""
        return torch.index_select(torch.index_select(x, 1, self.index), 2, self.index)


def _electrodes(step: Any) -> nn.Module:
    return Electrodes(step.subelec_)


REGRESSORS = frozenset(
    {"ARDRegression", "BayesianRidge", "ElasticNet", "ElasticNetCV", "HuberRegressor", "Lasso", "LassoCV", "Lars"}
    | {"LinearRegression", "LinearSVR", "Ridge", "RidgeCV", "SGDRegressor", "SVR", "TheilSenRegressor"}
)
MARGINS = frozenset(
    {"LinearSVC", "NuSVC", "PassiveAggressiveClassifier", "Perceptron", "RidgeClassifier", "RidgeClassifierCV", "SVC"}
)
"""Classifiers whose scores are no probabilities."""
FORESTS = {
    "DecisionTreeClassifier": True, "ExtraTreeClassifier": True, "RandomForestClassifier": True,
    "ExtraTreesClassifier": True, "DecisionTreeRegressor": False, "ExtraTreeRegressor": False,
    "RandomForestRegressor": False, "ExtraTreesRegressor": False,
}  # fmt: skip
"""Trees and forests, and whether they classify."""


def is_forest(name: str) -> bool:
    """Whether a class of scikit-learn is a tree or a forest of them."""
    return name in FORESTS


def _link_of(estimator: Any, name: str) -> str:
    """Return how a linear classifier makes probabilities of its scores; ``"none"`` where it makes none."""
    if not hasattr(estimator, "classes_"):
        raise refuse(estimator, "is not supported")
    binary = len(estimator.classes_) == 2
    if name in ("LogisticRegression", "LogisticRegressionCV"):
        rest = getattr(estimator, "multi_class", "") == "ovr" or estimator.solver == "liblinear"
        return "pair" if binary else "rest" if rest else "softmax"
    if name == "LinearDiscriminantAnalysis":
        return "pair" if binary else "softmax"
    if name == "SGDClassifier" and estimator.loss == "log_loss":
        return "pair" if binary else "rest"
    if name in MARGINS or name == "SGDClassifier":
        return "none"
    raise refuse(estimator, "is not supported")


def _forest(estimator: Any, name: str) -> nn.Module:
    if getattr(estimator, "n_outputs_", 1) != 1:
        raise refuse(estimator, f"has {estimator.n_outputs_} outputs; forests with one have a graph")
    members = getattr(estimator, "estimators_", None) or [estimator]
    if getattr(estimator, "monotonic_cst", None) is not None and not FORESTS[name]:
        raise refuse(estimator, "has monotonic constraints")
    return Trees([member.tree_ for member in members], classify=FORESTS[name])


def head_of(estimator: Any, name: str, answer: str) -> nn.Module:
    """Return the module of a final estimator of scikit-learn.

    Parameters
    ----------
    estimator : object
        Fitted.
    name : str
        Its class.
    answer : str
        ``"probabilities"``, ``"decision"`` or ``"predict"``.

    Raises
    ------
    InputError
        Where it has no graph.
    """
    if is_forest(name):
        return _forest(estimator, name)
    if getattr(estimator, "kernel", "linear") != "linear":
        raise refuse(estimator, f"has kernel {estimator.kernel!r}; the linear one has a graph")
    if name in REGRESSORS:
        link = "none"
    else:
        link = _link_of(estimator, name)
        if answer == "probabilities" and link == "none":
            raise refuse(
                estimator,
                "makes probabilities of its scores in a way that has no graph (a fit on folds of its own)",
                "--set answer=decision takes its scores; LDA and logistic regression have probabilities",
            )
        if name in ("SVC", "NuSVC") and len(estimator.classes_) > 2:
            raise refuse(estimator, "votes between pairs of classes; with two classes, or as LinearSVC, it has a graph")
    coefficients = np.atleast_2d(np.asarray(estimator.coef_, dtype=np.float64))
    bias = np.zeros(len(coefficients)) + np.atleast_1d(np.asarray(estimator.intercept_, dtype=np.float64))
    return Affine(np.zeros(coefficients.shape[1]), coefficients.T, bias, link if answer == "probabilities" else "none")
