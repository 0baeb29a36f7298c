"""From logits to new weights: losses, what is done to gradients, optimizers. No networks, no data.

`plain` says all of it for one network; `gradients` and `optimizer` do the same for many at once.
"""
