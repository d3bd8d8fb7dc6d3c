"""The ranker's features, computed by the same code for training and for serving.

Pure: NumPy and dataclasses in, arrays out. The way through it:

1. `FeatureState` holds what is known of one user; `apply(state, entries)` adds feed entries.
2. `ItemTable` holds the items' content vectors and history.
3. `user_features(...)` and `event_features(...)` give named arrays that refer to item content by
   `content_ref`; they are what a snapshot and a training log keep.
4. `model_inputs(...)` resolves the references and trims the padding: the inputs of the model.

Times are whole seconds since 1970-01-01 UTC (`seconds(datetime)`).
"""

from services.ranker.features.batch import concatenate, content_refs, model_inputs, resolve, rows
from services.ranker.features.events import EventFacts, event_features
from services.ranker.features.items import (
    CONTENT_DIMENSIONS,
    Embedding,
    ItemRecord,
    ItemTable,
    content_ref,
    content_vector,
)
from services.ranker.features.schema import (
    EVENT_FEATURES,
    STEPS,
    USER_FEATURES,
    Features,
    schema_hash,
)
from services.ranker.features.state import (
    Decision,
    Engagement,
    Entry,
    FeatureState,
    Send,
    Session,
    apply,
    decode,
    encode,
    new_entries,
)
from services.ranker.features.users import UserSignals, user_features
from services.ranker.features.vocabulary import (
    HEADS,
    Channel,
    EngagementKind,
    Head,
    item_key,
    seconds,
)

__all__ = [
    "CONTENT_DIMENSIONS",
    "EVENT_FEATURES",
    "HEADS",
    "STEPS",
    "USER_FEATURES",
    "Channel",
    "Decision",
    "Embedding",
    "Engagement",
    "EngagementKind",
    "Entry",
    "EventFacts",
    "FeatureState",
    "Features",
    "Head",
    "ItemRecord",
    "ItemTable",
    "Send",
    "Session",
    "UserSignals",
    "apply",
    "concatenate",
    "content_ref",
    "content_refs",
    "content_vector",
    "decode",
    "encode",
    "event_features",
    "item_key",
    "model_inputs",
    "new_entries",
    "resolve",
    "rows",
    "schema_hash",
    "seconds",
    "user_features",
]
