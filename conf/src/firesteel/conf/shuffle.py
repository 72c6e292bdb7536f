"""Names that the shuffle plugin (`rdma_shuffle/java`) and its users share."""

from __future__ import annotations

PLUGIN = "firesteel.shuffle.ShufflePlugin"
"""Value of `spark.plugins`: the application requests the shuffle service of its nodes."""

MANAGER = "firesteel.shuffle.FiresteelShuffleManager"
"""Value of `spark.shuffle.manager` in a running application that uses the shuffle service."""

FALLBACK = "spark.firesteel.shuffle.fallback"
REASON = "spark.firesteel.shuffle.fallbackReason"
REASON_TEXT = "spark.firesteel.shuffle.fallbackText"
"""Why a running application fell back: a keyword and a sentence. The driver's plugin sets both."""

REFUSED = "firesteel shuffle: "
"""Prefix of the plugin's error message when fallback is off."""
