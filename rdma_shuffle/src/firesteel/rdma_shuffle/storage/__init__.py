"""Map outputs on disk: the catalogue, its journal, and deletion in the background."""
