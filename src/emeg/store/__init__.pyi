from .catalog.facts import (
    KEYS as KEYS,
    find_labels as find_labels,
    read_facts as read_facts,
    write_facts as write_facts,
)
from .catalog.query import (
    CatalogAnswer as CatalogAnswer,
    CatalogConfig as CatalogConfig,
    query_catalog as query_catalog,
)
from .catalog.records import (
    BadReason as BadReason,
    CatalogRow as CatalogRow,
    Event as Event,
    QuarantineRecord as QuarantineRecord,
    RecordingAttributes as RecordingAttributes,
    Stretch as Stretch,
)
from .catalog.tables import (
    catalog_table as catalog_table,
    compact_catalog as compact_catalog,
    find_refusal as find_refusal,
    has_row as has_row,
    publish_row as publish_row,
    quarantine as quarantine,
    read_catalog as read_catalog,
    read_events as read_events,
    read_quarantine as read_quarantine,
    release as release,
)
from .models import (
    find_model as find_model,
    model_config as model_config,
    models_of as models_of,
    n_parameters as n_parameters,
)
from .files import MARKERS as MARKERS, SCHEMA as SCHEMA
from .products import Store as Store
from .recordings.measures import BadStretch as BadStretch, Measures as Measures, bad_stretches as bad_stretches
from .recordings.recording import (
    Recording as Recording,
    open_recording as open_recording,
    write_recording as write_recording,
)
from .verification import VerifyConfig as VerifyConfig, VerifyResult as VerifyResult, verify as verify
