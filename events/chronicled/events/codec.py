"""Between payload structs and stored bytes: validation, size limits, migration on read, opaque events."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from chronicled.events.envelope import Category, Draft, Event
from chronicled.events.errors import InvalidPayload, PayloadTooLarge
from chronicled.events.kind import KindSpec
from chronicled.events.limits import PART_BYTES_MAX, PART_HEAD_BYTES_MAX, PAYLOAD_BYTES_MAX
from chronicled.events.opaque import ERASED, Opaque, Why
from chronicled.events.parts import BLOBS, blobs_of, split
from chronicled.events.plain import typed
from chronicled.events.redaction import IdentityRedaction, Redaction
from chronicled.events.registry import Registry
from chronicled.events.rule_redaction import RuleRedaction
from chronicled.events.unit_stuck import UnitStuck

__all__ = ["Codec", "Opaque", "UpcasterChain", "attachment_of", "canonical_request", "encode_json"]

_encoder = msgspec.json.Encoder()
_canonical = msgspec.json.Encoder(order="deterministic")
encode_json: Callable[[Any], bytes] = _encoder.encode
"""Encode to compact UTF-8 JSON, fields in their declared order."""


REASON_CHARACTERS_MAX: Final = 1000
STUCK: Final = "a step of its unit did not end; it is not called again until the next start"


class UpcasterChain(Protocol):
    """Brings an old payload to its kind's current version; implemented in `chronicled.migrations`."""

    def reader(self, old: KindSpec, new: KindSpec) -> Callable[[msgspec.Raw], Any] | None:
        """Return what reads stored bytes of the version `old` as the current one, `new`.

        None: the payload's shape decides what becomes of it, so it goes through `upcast`.
        """
        ...

    def upcast(
        self, category: Category, kind: str, version: int, payload: Any, steps: int | None = None
    ) -> tuple[str, int, Any]:
        """Return the payload (plain JSON values) after so many steps, or all, and its kind and version then.

        Raises:
            LookupError: there is no path from that version.
            Exception: whatever a step raises.
        """
        ...

    def before(self, category: Category, kind: str, version: int) -> tuple[str, int] | None:
        """Return the kind and version that a payload of that version can be brought back to; None: there is no way."""
        ...

    def downcast(self, category: Category, kind: str, version: int, payload: Any) -> tuple[str, int, Any]:
        """Return the payload one version back, with the kind and version that it has then.

        Raises:
            LookupError: there is no way back.
            Exception: whatever the step raises, for what the older version cannot say.
        """
        ...


class Codec:
    """Encodes payloads for the log and decodes them again, for one registry.

    Args:
        registry: The kinds that this process knows.
        upcasters: How old versions become current ones; None knows none.
        redaction: Takes secrets out before anything is measured or hashed.
        payload_bytes_max: Largest encoded payload.
        rules: What units of third parties have replaced in their own payloads.
    """

    def __init__(
        self,
        registry: Registry,
        upcasters: UpcasterChain | None = None,
        redaction: Redaction | None = None,
        payload_bytes_max: int = PAYLOAD_BYTES_MAX,
        rules: RuleRedaction | None = None,
    ) -> None:
        self.rules = rules or RuleRedaction()
        self.registry = registry
        self.payload_bytes_max = payload_bytes_max
        self.upcasters = upcasters
        self.told: Callable[[Opaque], None] = _nobody
        """Hears of each payload that could not be read."""
        self.redaction = redaction or IdentityRedaction()
        self._decoders: dict[type[msgspec.Struct], msgspec.json.Decoder[Any]] = {}
        self._readers: dict[tuple[Category, str, int], Callable[[msgspec.Raw], Any]] = {}
        self._stuck: set[tuple[Category, str, int]] = set()

    def validate(self, spec: KindSpec, payload: bytes) -> msgspec.Struct:
        """Return the payload that came from outside as its struct.

        Raises:
            PayloadTooLarge: it is over the limit.
            InvalidPayload: it does not fit the schema, or names blobs, which is not the sender's to do; the message
                names the field.
        """
        if len(payload) > self.payload_bytes_max:
            raise PayloadTooLarge(
                f"The payload of {spec.kind} has {len(payload)} bytes; {self.payload_bytes_max} are allowed.",
                bytes_max=self.payload_bytes_max,
            )
        try:
            value: msgspec.Struct = self._decoder(spec.payload).decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidPayload(f"The payload of {spec.kind} does not fit: {error}.") from None
        if spec.parts and blobs_of(value):
            # Whoever names a blob makes it readable through the event's session.
            raise InvalidPayload(f"The payload of {spec.kind} does not fit: `{BLOBS}` is filled in here, not sent.")
        return value

    def split(
        self, tenant: str, session: str, spec: KindSpec, payload: msgspec.Struct, bytes_max: int = PART_BYTES_MAX
    ) -> tuple[msgspec.Struct, dict[str, bytes]]:
        """Return the payload with its large parts taken out, and those parts by digest: blobs, stored before the event.

        Parts are redacted whole and before their digest is made. A payload of at most `bytes_max` bytes, or of a kind
        without parts, comes back as it is. Encodes and hashes what may be MBs: call it in a thread for a large payload.

        Raises:
            InvalidPayload: a string holds a lone surrogate, which UTF-8 cannot carry.
        """
        if not spec.parts or len(self._encoded(spec, payload)) <= bytes_max:
            return payload, {}
        texts: dict[str, str] = {}
        for name in spec.parts:
            if isinstance(text := getattr(payload, name), str):
                # A secret across the end of the head would not be found once the text is split.
                clean = self.redaction.payload(tenant, session, encode_json({name: text}))
                texts[name] = msgspec.json.decode(self.rules.payload(spec.kind, clean), type=dict[str, str])[name]
        return split(msgspec.structs.replace(payload, **texts), spec.parts, bytes_max, PART_HEAD_BYTES_MAX)

    def encode(self, tenant: str, session: str, spec: KindSpec, payload: msgspec.Struct) -> bytes:
        """Return the bytes to store: redacted first, then measured.

        Raises:
            PayloadTooLarge: it is over the limit.
            InvalidPayload: a string holds a lone surrogate, which UTF-8 cannot carry, or a secret stands where its
                placeholder does not fit.
            SecretsUnavailable: the session's secrets cannot be read.
        """
        data, _ = self._redacted(tenant, session, spec, payload)
        if len(data) > self.payload_bytes_max:
            raise PayloadTooLarge(
                f"The payload of {spec.kind} has {len(data)} bytes; {self.payload_bytes_max} are allowed.",
                bytes_max=self.payload_bytes_max,
            )
        return data

    def redacts(self, tenant: str, session: str, kind: str) -> bool:
        """Tell whether anything may be replaced in a payload. Raises `SecretsUnavailable`."""
        return self.redaction.active(tenant, session) or self.rules.covers(kind)

    def redacted(self, tenant: str, session: str, spec: KindSpec, payload: msgspec.Struct) -> msgspec.Struct:
        """Return the payload as it may be published, the very same if nothing is replaced: `encode` does that too.

        For whoever is about to cut it, or has to know. Reads what may be MBs: call it in a thread for a large payload.
        Raises as `encode`, but for the size.
        """
        if not self.redacts(tenant, session, spec.kind):
            return payload
        return self._redacted(tenant, session, spec, payload)[1]

    def _redacted(
        self, tenant: str, session: str, spec: KindSpec, payload: msgspec.Struct
    ) -> tuple[bytes, msgspec.Struct]:
        encoded = self._encoded(spec, payload)
        data = self.rules.payload(spec.kind, self.redaction.payload(tenant, session, encoded))
        if data is encoded:
            return data, payload
        try:
            return data, self._decoder(spec.payload).decode(data)
        except (msgspec.DecodeError, ValueError) as error:
            raise InvalidPayload(
                f"A secret of the session stands in the payload of {spec.kind} where its name cannot: {error}."
            ) from None

    def _encoded(self, spec: KindSpec, payload: msgspec.Struct) -> bytes:
        try:
            return encode_json(payload)
        except UnicodeEncodeError as error:
            raise InvalidPayload(f"The payload of {spec.kind} is not valid Unicode: {error.reason}.") from None

    def draft(
        self,
        category: Category,
        kind: str,
        payload: msgspec.Struct,
        *,
        tenant: str,
        session: str,
        id: str,
        lane: str = "main",
        source: str = "daemon",
        actor: str = "daemon",
        cause: str | None = None,
        fresh: bool = True,
        request: bytes | None = None,
        traceparent: str | None = None,
        blobs: tuple[str, ...] = (),
    ) -> Draft:
        """Return a draft of the kind's current version; it names `blobs`, its attachment, and the blobs of its parts.

        Raises:
            UnknownKind: nobody registered the kind.
            InvalidPayload: the payload is of another type than the kind's, or not valid Unicode.
            PayloadTooLarge: it is over the limit.
        """
        spec = self.registry.current(category, kind)
        if type(payload) is not spec.payload:
            raise InvalidPayload(f"{kind} takes {spec.payload.__name__}, not {type(payload).__name__}.")
        return Draft(
            tenant,
            session,
            id,
            kind,
            spec.version,
            category,
            self.encode(tenant, session, spec, payload),
            lane,
            source,
            actor,
            cause,
            spec.terminal,
            request,
            fresh,
            traceparent,
            (*blobs, *blobs_of(payload).values(), *attachment_of(spec, payload))
            if spec.parts or spec.attachment
            else blobs,
        )

    def decode(self, event: Event) -> Any:
        """Return the event's payload as its kind's current struct, migrated; `Opaque` if that cannot be done. Total."""
        try:
            reader = self._readers.get((event.category, event.kind, event.version)) or self._reader(event)
            return reader(event.payload)
        except (Exception, SystemExit) as error:  # a step of anybody's may raise anything, and a read never ends for it
            return self._opaque(event, error)

    def read(self, event: Event) -> tuple[KindSpec, Any] | Opaque:
        """Return the kind that the event is one of today, and its payload; `Opaque` as `decode`. Total."""
        payload = self.decode(event)
        if isinstance(payload, Opaque):
            return payload
        spec = self.registry.find_current(event.category, event.kind, event.version)
        if spec is None or type(payload) is not spec.payload:
            # The payload decided among several kinds: it is asked again, for this is rare.
            assert self.upcasters is not None, "nothing else makes another kind of it"
            try:
                value = msgspec.json.decode(event.payload)
                kind, _, _ = self.upcasters.upcast(event.category, event.kind, event.version, value)
                spec = self.registry.current(event.category, kind)
            except (Exception, SystemExit) as error:  # a step that is not pure
                return self._opaque(event, error)
        return spec, payload

    def give_up(self, event: Event) -> None:
        """Read payloads of the event's kind and version no more: what reads them does not end."""
        self._stuck.add(_key(event))
        self._readers[_key(event)] = _unreadable("upcaster_failed", STUCK)

    def gave_up(self, event: Event) -> bool:
        """Tell whether payloads of the event's kind and version are read no more."""
        return _key(event) in self._stuck

    def unknown(self, category: Category, kind: str, version: int) -> tuple[Why, str] | None:
        """Return why no payload of that kind and version can be read here, in a word and in words; None if they can."""
        spec, current = self.registry.find(category, kind, version), self.registry.find_current(category, kind, version)
        if current is None:
            return "unknown_kind", "the kind is not known here"
        if spec is None:
            return "newer_version", f"newer than version {current.version}, known here"
        if spec is not current and self.upcasters is None:
            return "no_upcaster", f"no path to version {current.version}"
        return None

    def _reader(self, event: Event) -> Callable[[msgspec.Raw], Any]:
        """Return what reads payloads of the event's kind and version; raises `_Unreadable` where nothing can."""
        category, kind, version = key = event.category, event.kind, event.version
        unknown = self.unknown(*key)
        if unknown is not None:
            return _unreadable(*unknown)
        spec, current = self.registry.find(*key), self.registry.find_current(*key)
        assert spec is not None, "else it is not known"
        assert current is not None, "what is registered is read as something"
        reader: Callable[[msgspec.Raw], Any]
        if current is spec:
            reader = self._decoder(spec.payload).decode
        else:
            assert self.upcasters is not None, "else it is not known"
            reader = self.upcasters.reader(spec, current) or self._migrator(category, kind, version)
        self._readers[key] = reader
        return reader

    def _migrator(self, category: Category, kind: str, version: int) -> Callable[[msgspec.Raw], Any]:
        assert self.upcasters is not None, "asked only where there is a path"
        plain, upcast, current = msgspec.json.Decoder().decode, self.upcasters.upcast, self.registry.current
        payloads: dict[str, type[msgspec.Struct]] = {}

        def migrate(raw: msgspec.Raw) -> Any:
            value = plain(raw)
            name, _, value = upcast(category, kind, version, value)
            payload = payloads.get(name)
            if payload is None:
                payload = payloads[name] = current(category, name).payload
            return typed(value, payload)

        return migrate

    def _opaque(self, event: Event, error: BaseException) -> Opaque:
        raw = bytes(event.payload)
        if isinstance(error, UnitStuck):
            self.give_up(event)
        current = self.registry.find_current(event.category, event.kind, event.version)
        why: Why
        if isinstance(error, _UnreadableError):
            why, reason = error.why, str(error)
        elif raw == ERASED:
            why, reason = "erased", "it was erased"
        elif isinstance(error, UnicodeDecodeError | RecursionError | msgspec.DecodeError) and not isinstance(
            error, msgspec.ValidationError
        ):
            why, reason = "not_json", f"is not JSON: {error}"
        elif isinstance(error, msgspec.ValidationError) or self.registry.find(*_key(event)) is current:
            why, reason = "misfit", f"does not fit version {0 if current is None else current.version}: {error}"
        else:
            why, reason = "upcaster_failed", f"could not be migrated: {error!r}"
        opaque = Opaque(event.kind, event.version, reason[:REASON_CHARACTERS_MAX], raw, why)
        self.told(opaque)
        return opaque

    def _decoder(self, payload: type[msgspec.Struct]) -> msgspec.json.Decoder[Any]:
        decoder = self._decoders.get(payload)
        if decoder is None:
            decoder = self._decoders[payload] = msgspec.json.Decoder(payload)
        return decoder


class _UnreadableError(Exception):
    # Never leaves the codec: it becomes an `Opaque`.
    def __init__(self, why: Why, reason: object) -> None:
        super().__init__(str(reason))
        self.why: Why = why


def _key(event: Event) -> tuple[Category, str, int]:
    return event.category, event.kind, event.version


def _nobody(opaque: Opaque) -> None:
    # Where nobody counts.
    del opaque


def _unreadable(why: Why, reason: str) -> Callable[[msgspec.Raw], Any]:
    def read(raw: msgspec.Raw) -> Any:
        raise _UnreadableError(why, reason)

    return read


def attachment_of(spec: KindSpec, payload: msgspec.Struct) -> tuple[str, ...]:
    """Return the digest of the blob that the payload names as its attachment, if its kind has one."""
    return (getattr(payload, spec.attachment),) if spec.attachment is not None else ()


def canonical_request(
    key: bytes, session: str, kind: str, version: int, payload: msgspec.Struct, lane: str, expected_sequence: int | None
) -> bytes:
    """Return the keyed digest (32 bytes) by which a retry is told from another request under the same id.

    Made before redaction and blob-splitting; keyed, so that the log gives no oracle for guessing a secret in a request.
    Two spellings of one JSON value count as the same, since the validated struct is encoded, keys sorted.
    """
    data = _canonical.encode([session, kind, version, lane, expected_sequence, payload])
    return hashlib.blake2b(data, digest_size=32, key=key[:64]).digest()
