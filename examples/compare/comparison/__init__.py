"""Which soft label trains the better network: paired trainings, scores and statistics; see the README beside it.

`study` is the configuration, `slabs` the data of the laptop example. `batches`, `network`, `objective` and `training`
train one network; `prediction`, `truth`, `scores` and `judging` score it; `bootstrap`, `table`, `picture` compare all.
For nnU-Net there are also `nnunet_settings`, `nnunet_data`, `nnunet_training`, `nnunet_prediction` and `raw_truth`.
"""
