"""Judges a run repeatedly while it trains, and decides which findings to report, and when."""

from dataclasses import replace
from typing import Any

import numpy as np

from recipes.diagnose.finding import SOFT, Finding, arrange
from recipes.diagnose.rules.curve_rules import is_score
from recipes.diagnose.rules.diagnose import judge
from recipes.diagnose.rules.model_rules import expected_loss

_AT_THE_END = ("labels_shuffled", "unscaled_inputs")
_OF_WEIGHTS = ("layers", "statistics", "outputs")  # facts that change as the weights are trained
_OUT_OF_MEASURE = 1000  # times the loss of the best constant prediction
_LONG_ENOUGH = 50  # epochs, after which warnings wait no longer


class Casebook:
    """Keeps the findings of one run, reports each of them once, and withdraws those that no longer hold.

    What the data, the model and the loss show with certainty is reported at once, and so is a loss that is NaN. Faults
    that the run may still overcome (scales, learning rates, silent layers) wait until two consecutive judgments agree
    and half of the run is over, or until the last judgment. Errors do not wait for that half.

    Args:
        facts: What `recipes.diagnose.rules.run_facts.describe` collected before training.
    """

    def __init__(self, facts: dict) -> None:
        self.facts = facts
        self.findings = []
        self.said = []
        self._withdrawn = []
        self._before = set()
        self._missing = set()
        self._said_after = {}
        self._no_score, self._loss = False, np.zeros(0)

    def update(
        self,
        history: dict | None,
        record: Any,
        *,
        last: bool = False,
        planned: int | None = None,
        earlier: int = 0,
        **more_facts: Any,
    ) -> list[Finding]:
        """Judge the run so far.

        Args:
            history: dict of lists, one value per epoch so far, or None before training.
            record: What the probes saw so far, or None.
            last: Whether the run is over.
            planned: Number of epochs that the run is planned to have, or None.
            earlier: Epochs that the run made before `history`, which `planned` and `steps` do not count.
            **more_facts: Facts to add for this judgment, such as `steps`. If there were no facts before training, only
                `steps` is used.

        Returns:
            The list of `Finding` to report now, causes before symptoms. Those of severity "info" are withdrawn
            findings.
        """
        facts = {**self.facts, **more_facts} if self.facts else {}
        steps = more_facts.get("steps")
        epochs = max((len(values) for values in history.values()), default=0) if history else 0
        self._no_score = not any(is_score(name) for name in history or ())
        self._loss = np.asarray((history or {}).get("loss", ()), "float64")
        if facts and last and planned is not None and epochs < planned:
            facts = {**facts, "meant_to_be": planned}
        found = judge(
            history, record, facts, steps=steps, planned=epochs if last else planned, earlier=earlier
        )
        self.findings = arrange(found)
        # All findings before they are arranged, so that each symptom counts with its own severity.
        now = {(f.code, f.layer) for f in found if f.severity != "info"}
        new = [
            finding
            for finding in self.findings
            if finding.severity != "info"
            and not self._known(finding)
            and (
                last
                or self._at_once(finding, history)
                or (_key(finding) in self._before and self._is_time(finding, epochs, planned))
            )
        ]
        taken_back = self._take_back(now, epochs, last) if history else []
        self._before = now
        self.said += [*new, *taken_back]
        for finding in new:
            self._said_after[_key(finding)] = epochs + earlier
        current = {_key(finding) for finding in self.findings if finding.severity != "info"}
        self.findings += [f for f in self._withdrawn if _key(f) not in current]
        return [*new, *taken_back]

    def state(self) -> dict[str, Any]:
        """What another casebook needs to judge the rest of the run as this one would, in values that JSON can hold."""
        return {
            "facts": {name: self.facts[name] for name in _OF_WEIGHTS if name in self.facts},
            "said": [finding.to_dict() for finding in self.said],
            "withdrawn": [finding.to_dict() for finding in self._withdrawn],
            "before": [list(key) for key in sorted(self._before, key=str)],
            "missing": [list(key) for key in sorted(self._missing, key=str)],
            "said_after": [[*key, epochs] for key, epochs in self._said_after.items()],
        }

    def take_up(self, state: dict[str, Any]) -> None:
        """Continue where another casebook stopped: with its facts about the initial weights and its findings.

        Args:
            state: What `state` of the other casebook returned.
        """
        self.facts = {**self.facts, **state["facts"]} if self.facts else {}
        self.said = [Finding.from_dict(values) for values in state["said"]]
        self._withdrawn = [Finding.from_dict(values) for values in state["withdrawn"]]
        self._before, self._missing = ({tuple(key) for key in state[name]} for name in ("before", "missing"))
        self._said_after = {(code, layer): epochs for code, layer, epochs in state["said_after"]}

    def _known(self, finding):
        return any(_key(finding) in _keys(other) for other in self.said if not other.withdrawn)

    def _at_once(self, finding, history):
        if finding.code not in SOFT:
            return history is None or finding.severity == "error" or finding.epoch == 0
        loss = np.asarray((history or {}).get("loss", [0.0]), "float64")
        broken = not np.isfinite(loss).all()
        return broken and (finding.severity == "error" or finding.code == "unscaled_inputs")

    def _is_time(self, finding, epochs, planned):
        """Whether enough of the run is over to warn about something that it may still overcome."""
        # Moving averages settle with every step, just as scales are overcome with every step.
        passing = finding.code in SOFT or finding.code == "batch_norm_statistics" or _of_curves(finding)
        if not passing or finding.severity == "error" or planned is None:
            return True
        if finding.code == "unscaled_inputs" and self._lost(epochs):
            return True  # large inputs, and a loss that they probably blew up
        if finding.code in _AT_THE_END:
            return False  # what is not learned yet may still be; only the end tells
        if finding.code == "overfitting" and self._no_score:
            return False  # the validation loss may come down again; only the end tells
        return epochs >= min(_LONG_ENOUGH, planned / 2)

    def _lost(self, epochs):
        """Whether the loss is far above the best constant prediction and does not fall.

        After a single epoch, it must be a thousand times as high.
        """
        loss, nothing = self._loss, expected_loss(self.facts)
        if nothing is None or nothing <= 0 or not len(loss):
            return False
        nothing += sum(layer["penalty"] for layer in self.facts["layers"])
        if epochs < 2:
            return bool(loss[-1] > _OUT_OF_MEASURE * nothing)
        return bool(loss[-1] > 3 * nothing and loss[-1] > 0.9 * loss[:-1].min())

    def _take_back(self, now, epochs, last):
        """Withdraw reported findings that two consecutive judgments, or the last one, did not find again."""
        gone = {_key(f) for f in self.said if not f.withdrawn and not now & _keys(f)}
        certain = gone if last else gone & self._missing
        self._missing = gone
        taken_back = []
        for place, finding in enumerate(self.said):
            if finding.withdrawn or _key(finding) not in certain:
                continue
            when = self._said_after.get(_key(finding), 0)
            self.said[place] = replace(finding, withdrawn=True, said_after=when)
            taken_back.append(
                replace(finding, severity="info", consequences=(), withdrawn=True, said_after=when)
            )
        self._withdrawn += taken_back
        return taken_back


def _key(finding):
    return finding.code, finding.layer


def _of_curves(finding):
    """Whether validation lags behind in the curves, which it may do for a while; what the data shows has an epoch."""
    return finding.code == "train_validation_mismatch" and finding.epoch is None


def _keys(finding):
    return {_key(finding), *(_key(other) for other in finding.consequences)}
