"""Tables of an evaluation over many tasks.

``results.parquet``      `RESULTS`, every metric of every cell
``predictions.parquet``  `PREDICTIONS`, every tested window
``splits.parquet``       `SPLITS`, the side of every window in every fold
"""

import pyarrow as pa

RESULTS = pa.schema(
    [
        ("task", pa.string()),
        ("kind", pa.string()),
        ("split_rule", pa.string()),
        ("model", pa.string()),
        ("weights", pa.string()),
        ("mode", pa.string()),
        ("read_out", pa.string()),
        ("labels", pa.string()),
        ("condition", pa.string()),
        ("examples_per_class", pa.int32()),
        ("seed", pa.int32()),
        ("fold", pa.int32()),
        ("subject", pa.string()),
        ("unit", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("n", pa.int64()),
        ("note", pa.string()),
        ("setting", pa.string()),
    ]
)
"""One row for each cell, subject and metric.

``task``, ``kind``, ``split_rule``: of the task. ``model``: the product of a network, else the name of a rival.
``weights``: pretrained, random, or empty for rivals. ``mode``: frozen, lora, full, or empty. ``read_out``: logistic,
ridge, …, or empty. ``labels``: real or permuted. ``condition``: empty, or what was done to the windows, such as
``calibrated``. ``examples_per_class``: labelled windows of each class and subject, null for all. ``subject``: global
name, or empty for all test subjects of the fold together. ``unit``: window, or subject where the predictions of a
subject were averaged first. ``value``: null where a metric is not defined; ``note`` then says why. ``n``: windows or
subjects that it was computed from. ``setting``: JSON of what validation chose.
"""

PREDICTIONS = pa.schema(
    [
        ("task", pa.string()),
        ("model", pa.string()),
        ("weights", pa.string()),
        ("mode", pa.string()),
        ("read_out", pa.string()),
        ("labels", pa.string()),
        ("condition", pa.string()),
        ("examples_per_class", pa.int32()),
        ("seed", pa.int32()),
        ("fold", pa.int32()),
        ("subject", pa.string()),
        ("recording", pa.string()),
        ("start", pa.int64()),
        ("label", pa.float64()),
        ("prediction", pa.list_(pa.float64())),
    ]
)
"""One row for each tested window: ``label`` is the class index, the target or the stimulus index; ``prediction`` the
probability of every class, the predicted target, or the rank of the right stimulus and the number of candidates."""

SPLITS = pa.schema(
    [
        ("task", pa.string()),
        ("seed", pa.int32()),
        ("fold", pa.int32()),
        ("subject", pa.string()),
        ("recording", pa.string()),
        ("start", pa.int64()),
        ("side", pa.string()),
    ]
)
"""Side of every window: train, validation, test, support and validation_support (labelled examples of a test or
validation subject), calibration (unlabelled minutes of a test subject), or unused."""
