"""Judges a run again and again as it goes on, and decides what is worth saying when."""

from recipes.diagnose.finding import arrange
from recipes.diagnose.rules.diagnose import judge


class Casebook:
    """Keeps what was found in one run, and says each thing once.

    Errors, and what was known before training, are said at once. A warning about the run itself is said when two
    judgements one after the other agree, or the last one makes it: a slow second epoch is no fault yet.

    Args:
        facts: What `recipes.diagnose.describe.describe` found before training.
    """

    def __init__(self, facts):
        self.facts = facts
        self.findings = []
        self.said = []
        self._before = set()

    def update(self, history, record, *, last=False, **more_facts):
        """Judge the run so far.

        Args:
            history: dict of lists, one value an epoch so far, or None before training.
            record: What the probes saw so far, or None.
            last: Whether the run is over.
            **more_facts: Facts to add for this judgement, where there were any before training.

        Returns:
            The list of `Finding` to say now, causes before symptoms; never one of severity "info".
        """
        found = judge(history, record, {**self.facts, **more_facts} if self.facts else {})
        self.findings = arrange(found)
        static = history is None
        keys = {(finding.code, finding.layer) for finding in found}
        known = {(finding.code, finding.layer) for finding in self.said}
        known |= {(f.code, f.layer) for finding in self.said for f in finding.consequences}
        new = [
            finding
            for finding in self.findings
            if finding.severity != "info"
            and (finding.code, finding.layer) not in known
            and (
                static or last or finding.severity == "error" or (finding.code, finding.layer) in self._before
            )
        ]
        self._before = keys
        self.said += new
        return new
