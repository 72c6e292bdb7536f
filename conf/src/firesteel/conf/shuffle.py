"""Names that the shuffle plugin (`rdma_shuffle/java`) shares with those who ask for it."""

from __future__ import annotations

PLUGIN = "firesteel.shuffle.ShufflePlugin"
"""In `spark.plugins`: the application asks for the shuffle of its nodes' services."""

MANAGER = "firesteel.shuffle.FiresteelShuffleManager"
"""In `spark.shuffle.manager` of a running application: it has it."""

FALLBACK = "spark.firesteel.shuffle.fallback"
REASON = "spark.firesteel.shuffle.fallbackReason"
REASON_TEXT = "spark.firesteel.shuffle.fallbackText"
"""Why a running application has not: a word, and a sentence. The driver's plugin sets them."""

REFUSED = "firesteel shuffle: "
"""How the plugin's message begins when an application may not fall back."""
