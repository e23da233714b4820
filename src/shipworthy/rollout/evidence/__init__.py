"""Whether a new version is good enough, decided while its requests come in: mathematics only, numpy only.

    evidence = Evidence(mode, delta)               # "shadow", "canary" or "ab"
    evidence = Evidence.from_json(text)            # as it was stored, equal to the last bit
    judgement = judge(evidence, share=.25)         # .verdict "promote" "rollback" "hold" or None; .by .reason .figures
    text = evidence.to_json()

What is added, and where (numbers or arrays [n] throughout; `share` is the logged probability of the new version):

    evidence.paired.add(0.0, count=n)              # shadow: pairs that agree, or whose z = new loss - old loss is known
    evidence.paired.add_open(bound)                # pairs without a label, |z| <= bound (1 for classes that differ,
                                                   #   min(1, |new - old|/scale) for numbers): the worst case counts
    evidence.paired.settle(bound, z)               # the label of such a pair came
    evidence.unpaired.observe(new, share, loss)    # canary, A/B: loss in [0, 1], in the order of outcomes
    evidence.errors.observe(new, share, failed)    # requests, with whether each had the event
    evidence.latency.observe(new, share, slow)     # slow = Threshold(target).slow(seconds, new); leave out None
    evidence.errors.pairs(old_failed, new_failed)  # shadow: work that both did; likewise latency.pairs
    evidence.assigned.observe(new, share)          # sample ratios, canary and A/B; likewise completed, labelled
    evidence.assigned.count(share, (old, new))     # any of the five by counts: (events), then (requests)

Counts to show: paired.pairs .disagreeing .open .worse .better; unpaired.counts .losses [old, new]; of each ratio
.requests .events [old, new]. What is still needed: paired.needed(alpha), unpaired.needed(alpha, share).
`judge` writes `evidence.mismatch`, after which it never promotes: store what it judged.

How each formula keeps its promise stands at the top of its file; nothing here reads a clock or keeps a thread."""

from .figures import Alphas, Figure
from .paired import Paired
from .ratio import Ratio
from .state import Evidence
from .threshold import Threshold
from .unpaired import Unpaired
from .verdict import Judgement, judge

__all__ = ["Alphas", "Evidence", "Figure", "Judgement", "Paired", "Ratio", "Threshold", "Unpaired", "judge"]
