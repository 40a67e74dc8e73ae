"""An adapter taken along: copied, truncated, merged, as GGUF, with its card, pushed; each with a proof."""
