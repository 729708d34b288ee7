"""Rate limits and quotas: reserve before the work, settle or refund after it."""
