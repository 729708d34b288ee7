"""Training: LoRA runs driven by four primitives, in Signal's REST.

In: a run's configuration, batches of text or chats, prompts. Out: losses and gradient norms, step counts, sampled
text, adapter and merged checkpoints with their manifests. Learning rates are per optimiser step, losses in nats per
weighted token, lengths in tokens, times in UTC.

It does not compute: an engine does, behind `engine.base.Engine`. It does not hold prompts or batches after a call, does
not push to any hub, charges nothing, and knows one loss (cross-entropy over the next token).
"""
