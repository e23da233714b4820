"""The metrics of monitoring: their names, and what they say.

Exposition, dashboard, alert rules and documents are made of this table."""

from __future__ import annotations

from ..server.observe.families import Family

_MODEL = ("model", "version")
_SIGNAL = (*_MODEL, "signal")
_RULE = (*_MODEL, "rule")
_METRIC = (*_MODEL, "metric")

EVIDENCE = Family(
    "shipworthy_monitor_evidence_ratio",
    "gauge",
    "Evidence of drift over the threshold of the sequential detector, of the signal with most; 1 raises an alarm.",
    _MODEL,
)
SIGNAL_EVIDENCE = Family(
    "shipworthy_monitor_signal_evidence_ratio",
    "gauge",
    "Evidence of drift of a signal over the threshold of the sequential detector; 1 raises an alarm.",
    _SIGNAL,
)
P_VALUE = Family(
    "shipworthy_monitor_window_p_value",
    "gauge",
    "Probability, without drift, of a window of scored requests that differs from the reference at least as much as "
    "the last one; not corrected for the number of signals.",
    _SIGNAL,
)
ALARMS = Family(
    "shipworthy_monitor_alarms",
    "gauge",
    "Alarms that stand: raised, and not acknowledged by anybody.",
    (*_MODEL, "detector"),
)
BEGAN = Family(
    "shipworthy_monitor_alarm_began_timestamp_seconds",
    "gauge",
    "When the change behind the alarms that stand is estimated to have begun, of the earliest, since unix epoch.",
    (*_MODEL, "detector"),
)
DISTANCE = Family(
    "shipworthy_monitor_signal_distance",
    "gauge",
    "How far a signal has moved from its reference, from 0 to 1: the KS distance of a number, the share of classes "
    "that has moved.",
    _SIGNAL,
)
MEAN = Family("shipworthy_monitor_signal_mean", "gauge", "Mean of a signal over the last windows.", _SIGNAL)
REFERENCE_MEAN = Family(
    "shipworthy_monitor_signal_reference_mean", "gauge", "Mean of a signal in the reference.", _SIGNAL
)
PSI = Family(
    "shipworthy_monitor_signal_psi_uncalibrated",
    "gauge",
    "Population stability index of a signal. Uncalibrated: a threshold on it keeps no rate of false alarms.",
    _SIGNAL,
)
RULE_VALUE = Family(
    "shipworthy_monitor_rule_value_uncalibrated",
    "gauge",
    "Value of a rule of thumb. Uncalibrated: it keeps no rate of false alarms.",
    _RULE,
)
RULE_THRESHOLD = Family(
    "shipworthy_monitor_rule_threshold_uncalibrated",
    "gauge",
    "Usual threshold of a rule of thumb. Uncalibrated: it keeps no rate of false alarms.",
    _RULE,
)
RULE_FIRES = Family(
    "shipworthy_monitor_rule_fires_uncalibrated",
    "gauge",
    "1 where a rule of thumb is above its threshold, else 0. Uncalibrated: it keeps no rate of false alarms.",
    _RULE,
)
REQUESTS = Family(
    "shipworthy_monitor_requests_total", "counter", "Rows that were answered while the version was watched.", _MODEL
)
SCORED = Family(
    "shipworthy_monitor_scored_total",
    "counter",
    "Rows that were chosen at random and scored; promises and delays count these.",
    _MODEL,
)
UNSCORED = Family(
    "shipworthy_monitor_unscored_total",
    "counter",
    "Rows that were chosen and lost, because the monitor was too slow for them.",
    _MODEL,
)
QUALITY = Family(
    "shipworthy_monitor_quality", "gauge", "Quality of the answers, by the labels that have come.", _METRIC
)
QUALITY_LOWER = Family(
    "shipworthy_monitor_quality_lower",
    "gauge",
    "Lower end of the confidence sequence of the quality, which holds at all times at once.",
    _METRIC,
)
QUALITY_UPPER = Family(
    "shipworthy_monitor_quality_upper",
    "gauge",
    "Upper end of the confidence sequence of the quality, which holds at all times at once.",
    _METRIC,
)
QUALITY_LEVEL = Family(
    "shipworthy_monitor_quality_level", "gauge", "Quality that the version was accepted at.", _METRIC
)
QUALITY_BELOW = Family(
    "shipworthy_monitor_quality_below",
    "gauge",
    "1 where the quality is proven to be below the level that the version was accepted at, else 0.",
    _METRIC,
)
LABELS = Family(
    "shipworthy_monitor_quality_labels_total", "counter", "Labels that the quality is computed from.", _METRIC
)
ESTIMATE = Family(
    "shipworthy_monitor_accuracy_estimate",
    "gauge",
    "Accuracy without labels: an estimate, by average thresholded confidence, which assumes that confidence means what "
    "it meant on held-out data.",
    _MODEL,
)
ESTIMATE_REFERENCE = Family(
    "shipworthy_monitor_accuracy_estimate_reference",
    "gauge",
    "The same estimate on the reference, which is the accuracy there.",
    _MODEL,
)
REFERENCE_SAMPLES = Family(
    "shipworthy_monitor_reference_samples", "gauge", "Samples of the reference, or of what is collected of it.", _MODEL
)
REFERENCE_WANTED = Family(
    "shipworthy_monitor_reference_wanted_samples",
    "gauge",
    "Samples that a reference from production still needs; 0 where it is complete.",
    _MODEL,
)
RUN_LENGTH = Family(
    "shipworthy_monitor_promise_run_length",
    "gauge",
    "Promise of the sequential detector: scored requests until a false alarm, on average, at least.",
    _MODEL,
)
WINDOW = Family("shipworthy_monitor_promise_window", "gauge", "Scored requests of a window.", _MODEL)
WINDOW_RATE = Family(
    "shipworthy_monitor_promise_window_rate",
    "gauge",
    "Promise of the windowed test: probability of a false alarm for each window, on average over references.",
    _MODEL,
)
UPDATED = Family(
    "shipworthy_monitor_last_update_timestamp_seconds",
    "gauge",
    "When the monitor last looked, since unix epoch.",
    _MODEL,
)
WEBHOOKS = Family(
    "shipworthy_monitor_webhooks_total", "counter", "Messages to webhooks, by what became of them.", ("outcome",)
)
WEBHOOKS_WAITING = Family(
    "shipworthy_monitor_webhooks_waiting", "gauge", "Messages to webhooks that have not been delivered yet."
)

FAMILIES = (
    EVIDENCE,
    SIGNAL_EVIDENCE,
    P_VALUE,
    ALARMS,
    BEGAN,
    DISTANCE,
    MEAN,
    REFERENCE_MEAN,
    PSI,
    RULE_VALUE,
    RULE_THRESHOLD,
    RULE_FIRES,
    REQUESTS,
    SCORED,
    UNSCORED,
    QUALITY,
    QUALITY_LOWER,
    QUALITY_UPPER,
    QUALITY_LEVEL,
    QUALITY_BELOW,
    LABELS,
    ESTIMATE,
    ESTIMATE_REFERENCE,
    REFERENCE_SAMPLES,
    REFERENCE_WANTED,
    RUN_LENGTH,
    WINDOW,
    WINDOW_RATE,
    UPDATED,
    WEBHOOKS,
    WEBHOOKS_WAITING,
)
