"""Memory for fetched blocks: slabs, allocations, and the client processes that hold them."""
