"""Notes, keys, cosignatures and checkpoints, held against those that others made."""

import base64
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from verifier.journal.checkpoints import MAX_SIZE, Checkpoint
from verifier.journal.notes import (
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    MAX_TIME_S,
    Note,
    NoteError,
    NoteKey,
    NoteSignature,
    cosign,
    parse_lines,
    sign,
)

NOTES = Path(__file__).with_name("notes")

# The example of golang.org/x/mod/sumdb/note: key, secret and note.
NEUMANN = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NEUMANN_SECRET = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
NEUMANN_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
NEUMANN_NOTE = (
    f"{NEUMANN_TEXT}\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
# C2SP signed-note and tlog-cosignature: their examples of a vkey and of notes, whose text may have empty lines.
FOO = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
QUASIMODO = (NOTES / "quasimodo.txt").read_text(encoding="utf-8")
SOFA = (NOTES / "sofa.txt").read_text(encoding="utf-8")
SOFA_TIME = 1679315147
# A checkpoint of a public log of certificates, cosigned by public witnesses in 2026.
ARCHE = (NOTES / "arche2025h1.txt").read_text(encoding="utf-8")
ARCHE_LOG = "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f"
ARCHE_WITNESSES = (
    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
    "transparency.dev/DEV:witness-little-garden+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM",
    "witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO",
    "witness.stagemole.eu+67f7aea0+BEqSG3yu9YrmcM3BHvQYTxwFj3uSWakQepafafpUqklv",
)
ARCHE_TIME = 0x6A122120

LOG = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
WITNESS = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
LOG_KEY = NoteKey.of("log.example/journal", LOG)
WITNESS_KEY = NoteKey.of("witness.example", WITNESS, cosigns=True)
CHECKPOINT = Checkpoint(LOG_KEY.name, 5, sha256(b"root").digest())


def signed() -> Note:
    return sign(CHECKPOINT.text, LOG_KEY.name, LOG)


def test_the_note_of_the_go_package() -> None:
    key = NoteKey.parse(NEUMANN)
    note = Note.parse(NEUMANN_NOTE.encode())
    assert key.vkey == NEUMANN
    assert note.text == NEUMANN_TEXT
    assert note.signed_by(key)
    assert bytes(note) == NEUMANN_NOTE.encode()
    secret = Ed25519PrivateKey.from_private_bytes(base64.b64decode(NEUMANN_SECRET)[1:])
    assert bytes(sign(NEUMANN_TEXT, "PeterNeumann", secret)) == NEUMANN_NOTE.encode()  # Ed25519 is deterministic
    assert not Note.parse(NEUMANN_NOTE.replace("answer", "Answer").encode()).signed_by(key)


@pytest.mark.parametrize("vkey", [NEUMANN, FOO, ARCHE_LOG, *ARCHE_WITNESSES])
def test_keys_of_others_are_read_and_written_alike(vkey: str) -> None:
    assert NoteKey.parse(vkey).vkey == vkey


@pytest.mark.parametrize("text", [QUASIMODO, SOFA, ARCHE])
def test_notes_of_others_are_read_and_written_alike(text: str) -> None:
    assert bytes(Note.parse(text.encode())) == text.encode()


def test_the_text_ends_at_the_last_empty_line() -> None:
    assert Note.parse(QUASIMODO.encode()).text.endswith("\n\ned è subito sera.\n")


def test_the_checkpoint_of_the_cosignature_standard() -> None:
    note = Note.parse(SOFA.encode())
    checkpoint = Checkpoint.parse(note.text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert int.from_bytes(note.signatures[1].data[:8], "big") == SOFA_TIME


def test_a_checkpoint_that_public_witnesses_cosigned() -> None:
    note = Note.parse(ARCHE.encode())
    log = NoteKey.parse(ARCHE_LOG)
    assert Checkpoint.parse(note.text).origin == log.name
    assert note.signed_by(log)
    assert [note.cosigned_by(NoteKey.parse(vkey)) for vkey in ARCHE_WITNESSES] == [ARCHE_TIME] * 4
    other = Note.parse(ARCHE.replace("\n1432088532\n", "\n1432088533\n").encode())
    assert not other.signed_by(log)
    assert [other.cosigned_by(NoteKey.parse(vkey)) for vkey in ARCHE_WITNESSES] == [None] * 4


def test_the_bytes_of_a_cosignature() -> None:
    line = cosign(CHECKPOINT.text, WITNESS_KEY.name, WITNESS, SOFA_TIME)
    message = f"cosignature/v1\ntime {SOFA_TIME}\n{CHECKPOINT.text}".encode()
    assert line.data == SOFA_TIME.to_bytes(8, "big") + WITNESS.sign(message)
    assert line.key_id == sha256(b"witness.example\n\x04" + WITNESS_KEY.public_key).digest()[:4]


def test_cosignatures_are_added_and_the_newer_takes_the_place_of_the_older() -> None:
    first = cosign(CHECKPOINT.text, WITNESS_KEY.name, WITNESS, 100)
    second = cosign(CHECKPOINT.text, WITNESS_KEY.name, WITNESS, 200)
    note = signed().plus([first])
    assert note.cosigned_by(WITNESS_KEY) == 100
    again = note.plus([second])
    assert again.cosigned_by(WITNESS_KEY) == 200
    assert len(again.signatures) == 2
    assert again.signed_by(LOG_KEY)
    assert Note.parse(bytes(again)) == again
    both = Note(note.text, (*again.signatures, first))  # as others may hand it on
    assert both.cosigned_by(WITNESS_KEY) == 200


def test_a_cosignature_says_its_own_time_and_text_alone() -> None:
    line = cosign(CHECKPOINT.text, WITNESS_KEY.name, WITNESS, 100)
    later = NoteSignature(line.name, line.key_id, (101).to_bytes(8, "big") + line.data[8:])
    short = NoteSignature(line.name, line.key_id, line.data[:-1])
    never = cosign(CHECKPOINT.text, WITNESS_KEY.name, WITNESS, MAX_TIME_S + 1)
    assert signed().plus([later]).cosigned_by(WITNESS_KEY) is None
    assert signed().plus([short]).cosigned_by(WITNESS_KEY) is None
    assert signed().plus([never]).cosigned_by(WITNESS_KEY) is None
    other = Checkpoint(CHECKPOINT.origin, 6, CHECKPOINT.root)
    assert sign(other.text, LOG_KEY.name, LOG).plus([line]).cosigned_by(WITNESS_KEY) is None


def test_a_signature_is_no_cosignature_and_a_cosignature_none() -> None:
    """One key under one name may do both; the key id tells them apart, and so does what is signed."""
    signs, cosigns = NoteKey.of("both", LOG), NoteKey.of("both", LOG, cosigns=True)
    note = sign(CHECKPOINT.text, "both", LOG)
    line = cosign(CHECKPOINT.text, "both", LOG, 100)
    assert signs.key_id != cosigns.key_id
    assert note.cosigned_by(cosigns) is None
    assert note.cosigned_by(signs) is None
    assert not Note(note.text, (line,)).signed_by(signs)
    assert not Note(note.text, (line,)).signed_by(cosigns)
    relabeled = Note(note.text, (NoteSignature("both", signs.key_id, line.data[8:]),))
    assert not relabeled.signed_by(signs)
    timed = NoteSignature("both", cosigns.key_id, bytes(8) + note.signatures[0].data)
    assert Note(note.text, (timed,)).cosigned_by(cosigns) is None


def test_a_key_of_the_same_id_and_another_name_has_signed_nothing() -> None:
    line = signed().signatures[0]
    renamed = Note(CHECKPOINT.text, (NoteSignature("log.example/other", line.key_id, line.data),))
    assert not renamed.signed_by(LOG_KEY)
    assert not renamed.signed_by(NoteKey("log.example/other", LOG_KEY.public_key))


@pytest.mark.parametrize("at", range(len(bytes(signed()))))
def test_no_flipped_bit_keeps_the_signature(at: int) -> None:
    data = bytearray(bytes(signed()))
    data[at] ^= 1
    try:
        note = Note.parse(bytes(data))
    except NoteError:
        return
    assert not note.signed_by(LOG_KEY)


@pytest.mark.parametrize(
    ("bent", "says"),
    [
        ("", "no vkey"),
        ("log+00000000", "no vkey"),
        (NEUMANN.replace("ARpc", "AR!c"), "bad base64"),
        (NEUMANN.replace("c74f20a3", "c74f20a4"), "another hash"),
        (NEUMANN.replace("c74f20a3", "C74F20A3"), "another hash"),
        (NEUMANN.replace("PeterNeumann", "PeterNewmann"), "another hash"),
        (NEUMANN[:-4], "neither"),
        (NEUMANN.replace("+AR", "+BB"), "another hash"),
        (NEUMANN.replace("+AR", "+CR"), "neither"),
        (NEUMANN.replace("PeterNeumann", ""), "no key name"),
        (NEUMANN.replace("PeterNeumann", "Peter Neumann"), "no key name"),
        (NEUMANN.replace("PeterNeumann", "P" * 257), "no key name"),
        ("a+00000000+AQ==", "neither"),
        ("a+00000000+AR==", "another spelling"),
    ],
)
def test_vkeys_that_are_none(bent: str, says: str) -> None:
    with pytest.raises(NoteError, match=says):
        NoteKey.parse(bent)


def test_a_key_of_another_size_is_none() -> None:
    with pytest.raises(NoteError, match="32 bytes, not 31"):
        NoteKey("log", bytes(31))


LINE = signed().signatures[0].line


@pytest.mark.parametrize(
    ("bent", "says"),
    [
        (b"", "empty line"),
        (b"text\n", "empty line"),
        (f"text\n{LINE}".encode(), "empty line"),
        (f"\n\n{LINE}".encode(), "empty line"),
        (f"text\n\n{LINE.rstrip()}".encode(), "empty line"),
        (f"text\n\n{LINE}\n".encode(), "empty line"),
        (f"text\n\n{LINE}more\n".encode(), "a dash"),
        (b"text\n\n- log aGVsbG8=\n", "a dash"),
        ("text\n\n— log\n".encode(), "a dash"),
        ("text\n\n— lo+g aGVsbG8=\n".encode(), "a dash"),
        ("text\n\n— log a GVsbG8=\n".encode(), "bad base64"),
        ("text\n\n— log aGVsbG8\n".encode(), "bad base64"),
        ("text\n\n— log aGVsbG9=\n".encode(), "another spelling"),
        ("text\n\n— log aGVsbA==\n".encode(), "without a signature"),
        (b"te\xffxt\n\n" + LINE.encode(), "UTF-8"),
        (b"te\rxt\n\n" + LINE.encode(), "control"),
        (b"te\txt\n\n" + LINE.encode(), "control"),
        (f"text\n\n{LINE * (MAX_SIGNATURES + 1)}".encode(), "signatures"),
        (b"a" * MAX_NOTE_BYTES + f"\n\n{LINE}".encode(), "are allowed"),
    ],
)
def test_notes_that_are_none(bent: bytes, says: str) -> None:
    with pytest.raises(NoteError, match=says):
        Note.parse(bent)


def test_lines_without_their_text() -> None:
    lines = [cosign(CHECKPOINT.text, name, WITNESS, 1) for name in ("one", "two")]
    assert parse_lines("".join(line.line for line in lines).encode()) == tuple(lines)


@pytest.mark.parametrize(
    ("bent", "says"),
    [(b"", "newline"), (LINE.rstrip().encode(), "newline"), (b"\xff\n", "UTF-8"), (b"\n", "a dash")],
)
def test_lines_that_are_none(bent: bytes, says: str) -> None:
    with pytest.raises(NoteError, match=says):
        parse_lines(bent)


@given(
    st.text(min_size=1).filter(lambda t: "\n" not in t), st.integers(0, MAX_SIZE), st.binary(min_size=32, max_size=32)
)
def test_a_checkpoint_is_read_as_it_is_written(origin: str, size: int, root: bytes) -> None:
    checkpoint = Checkpoint(origin, size, root)
    assert Checkpoint.parse(checkpoint.text) == checkpoint
    assert checkpoint.hash == sha256(f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n".encode()).digest()


ROOT = base64.b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    ("bent", "says"),
    [
        ("", "three lines"),
        (f"log\n5\n{ROOT}", "three lines"),
        (f"log\n5\n{ROOT}\nmore\n", "three lines"),
        (f"log\n5\n{ROOT}\n\n", "three lines"),
        (f"log\n5\n{ROOT[:-1]}\n", "bad base64"),
        (f"log\n5\n{ROOT[:-2]}é=\n", "bad base64"),
        (f"log\n5\n{ROOT[:-2]}B=\n", "another spelling"),
        (f"\n5\n{ROOT}\n", "bad size or root"),
        (f"log\n05\n{ROOT}\n", "bad size or root"),
        (f"log\n-5\n{ROOT}\n", "bad size or root"),
        (f"log\n\n{ROOT}\n", "bad size or root"),
        (f"log\n\N{ARABIC-INDIC DIGIT FIVE}\n{ROOT}\n", "bad size or root"),
        (f"log\n{MAX_SIZE + 1}\n{ROOT}\n", "bad size or root"),
        ("log\n5\nAAAA\n", "bad size or root"),
    ],
)
def test_checkpoints_that_are_none(bent: str, says: str) -> None:
    with pytest.raises(NoteError, match=says):
        Checkpoint.parse(bent)
