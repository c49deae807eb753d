"""From a configuration to published entries: the plan, its stages, batches, receipts and costs."""
