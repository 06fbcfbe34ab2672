"""Tables of an evaluation over many tasks.

``results.parquet``      `RESULTS`, every metric of every cell
``predictions.parquet``  `PREDICTIONS`, every tested window
``splits.parquet``       `SPLITS`, the side of every window in every fold
"""

import pyarrow as pa

_TEXT, _INT = pa.string(), pa.int32()
_OF_MODEL = [(name, _TEXT) for name in ("model", "weights", "mode", "read_out", "labels", "condition")]
_OF_CELL = [*_OF_MODEL, ("examples_per_class", _INT), ("seed", _INT), ("fold", _INT)]
"""Columns that name a cell, besides its task."""
_OF_WINDOW = [("subject", _TEXT), ("recording", _TEXT), ("start", pa.int64())]

RESULTS = pa.schema(
    [
        ("task", _TEXT),
        ("kind", _TEXT),
        ("split_rule", _TEXT),
        ("family", _TEXT),
        *_OF_CELL,
        ("subject", _TEXT),
        ("unit", _TEXT),
        ("metric", _TEXT),
        ("value", pa.float64()),
        ("n", pa.int64()),
        ("note", _TEXT),
        ("setting", _TEXT),
    ]
)
"""One row for each cell, subject and metric.

``task``, ``kind``, ``split_rule``: of the task. ``family``: reference, handcrafted, supervised, published or network
(`emeg.evaluation.protocol.interfaces.Family`). ``model``: the product of a network, else the name of a rival.
``weights``: pretrained, random, or empty for rivals. ``mode``: frozen, lora, full, or empty. ``read_out``: logistic,
ridge, contrastive, or empty where a network is trained. ``labels``: real or permuted. ``condition``: empty, or what was
done to the windows, such as ``calibrated``. ``examples_per_class``: labelled windows of each class and subject, null
for all. ``subject``: global name, or empty for all test subjects of the fold together. ``unit``: window, or subject
where the predictions of a subject were averaged first. ``value``: null where a metric is not defined; ``note`` then
says why. ``n``: windows or subjects that it was computed from. ``setting``: JSON of what validation chose.
"""

PREDICTIONS = pa.schema(
    [("task", _TEXT), *_OF_CELL, *_OF_WINDOW, ("label", pa.float64()), ("prediction", pa.list_(pa.float64()))]
)
"""One row for each tested window: ``label`` is the class index, the target or the stimulus index; ``prediction`` the
probability of every class, the predicted target, or the rank of the right stimulus and the number of candidates."""

SPLITS = pa.schema([("task", _TEXT), ("seed", _INT), ("fold", _INT), *_OF_WINDOW, ("side", _TEXT)])
"""Side of every window: train, validation, test, support and validation_support (labelled examples of a test or
validation subject), calibration (unlabelled minutes of a test subject), or unused."""
