"""Stage compare: how far the masks of two networks differ (AR)."""
