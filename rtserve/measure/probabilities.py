r"""Metrics of the probability that each class is given: the area under the ROC curve, and the logarithmic loss.

Definitions are scikit-learn's. `auc` of two classes is `roc_auc_score`; of more, the mean over classes of each against
the rest (``multi_class="ovr", average="macro"``). `log_loss` is the mean of :math:`-\ln p` of the class that is there,
p held to what float32 can tell from 0.

An AUC is a mean over pairs of windows and not of windows. It is resampled to first order: with :math:`V_i` the share of
the other class that window i is on the right side of, window i adds
:math:`\psi_i = (V_i - A)\, n / n_{c(i)}` to the mean A (Hájek's projection). The squares of these sums over people
estimate its variance (DeLong 1988; with several windows a person Obuchowski 1997), and swapping two models exchanges
them, never scores of two scales.
"""

from __future__ import annotations

import numpy as np

from rtserve.errors import InputError

__all__ = ["CLIP", "auc_statistics", "class_probabilities", "even", "log_loss_end", "log_loss_statistics", "priors"]

Array = np.ndarray

CLIP = float(np.finfo(np.float32).eps)
"""Smallest probability in a logarithm, as scikit-learn has it for float32."""
_SUM = 1e-3


def class_probabilities(outputs: Array, form: str, *, name: str) -> Array:
    """Return (n, n_classes) float64 probabilities; one output is that of the second of two classes.

    Parameters
    ----------
    outputs : ndarray, (n, k)
        As a graph answers.
    form : str
        What they are, as in `rtserve.spec.FORMS`.
    name : str
        What errors call the graph.

    Raises
    ------
    InputError
        Where the form is not known, or probabilities are none.
    """
    x = np.asarray(outputs, np.float64)
    if form == "logits":
        return _softmax(np.concatenate([np.zeros_like(x), x], axis=1) if x.shape[1] == 1 else x)
    if form not in ("probabilities", "log-probabilities"):
        raise InputError(
            f"{name} does not say whether its {x.shape[1]} outputs are logits or probabilities",
            hint="export or fuse it again: this version records the form; balanced_accuracy and others need none",
        )
    p = np.exp(x) if form == "log-probabilities" else x
    bad = (p < -_SUM) | (p > 1 + _SUM)
    bad = bad.any(axis=1) | ((np.abs(p.sum(axis=1) - 1) > _SUM) if p.shape[1] > 1 else np.zeros(len(p), bool))
    if bad.any():
        first = int(np.argmax(bad))
        raise InputError(
            f"{name} says that its outputs are {form}; at window {first} they are {np.array2string(p[first], precision=4)}",
            hint="each is from 0 to 1, and those of several classes add up to 1",
        )
    p = np.clip(p, 0.0, 1.0)
    return np.concatenate([1.0 - p, p], axis=1) if p.shape[1] == 1 else p


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    p: Array = e / e.sum(axis=1, keepdims=True)
    return p


def log_loss_statistics(y: Array, p: Array) -> Array:
    """Return (n, 3): one, the loss of each window, and whether another class has the larger probability."""
    there = p[np.arange(len(y)), y.astype(np.int64)]
    return np.stack([np.ones(len(y)), -np.log(np.clip(there, CLIP, 1.0)), p.max(axis=1) > there], axis=1)


def log_loss_end(total: Array, share: float) -> float | None:
    """Return the least upper end where no window was wrong and `share` of them could be; None where one was.

    A window that is wrong costs at least ln 2: its class has at most half of the probability.
    """
    n, loss, wrong = total
    return None if wrong else float(loss / n + share * np.log(2.0))


CERTAIN = 1e6


def auc_statistics(y: Array, p: Array) -> Array:
    """Return (n, 2): one, and the AUC with what each window adds to it; NaN where a class has no window."""
    classes = [1] if p.shape[1] == 2 else list(range(p.shape[1]))
    added = np.mean([_added(y == k, _odds(p, k)) for k in classes], axis=0)
    return np.stack([np.ones(len(y)), added], axis=1)


def _odds(p: Array, k: int) -> Array:
    """Return what orders windows as the probability of class k does, with digits left where it is nearly one."""
    with np.errstate(divide="ignore"):
        odds = np.log(p[:, k]) - np.log(np.delete(p, k, axis=1).sum(axis=1))
    # float32 cannot tell apart what is as near as this: ties stay ties whatever the order of a sum.
    # Certainty is finite here, above every odds that float64 has: scipy before 1.12 takes inf and -inf together for NaN.
    rounded: Array = np.clip(np.round(odds, 10), -CERTAIN, CERTAIN)
    return rounded


def _added(positive: Array, score: Array) -> Array:
    from scipy.stats import rankdata

    n, n_pos = len(score), int(positive.sum())
    n_neg = n - n_pos
    if not n_pos or not n_neg:
        return np.full(n, np.nan)
    ranks = rankdata(score)
    right = np.empty(n)
    right[positive] = (ranks[positive] - rankdata(score[positive])) / n_neg
    right[~positive] = 1.0 - (ranks[~positive] - rankdata(score[~positive])) / n_pos
    area = float(right[positive].mean())
    return area + (right - area) * np.where(positive, n / n_pos, n / n_neg)


def priors(y: Array) -> Array:
    """Return (n, n_classes): the share of each class, the constant with the least logarithmic loss."""
    share = np.bincount(y.astype(np.int64), minlength=2) / len(y)
    return np.tile(share, (len(y), 1))


def even(y: Array) -> Array:
    """Return (n, n_classes) of one probability: no constant ranks a window before another."""
    k = max(2, int(y.max()) + 1)
    return np.full((len(y), k), 1.0 / k)
