"""An honest loopback Cloud Storage: it speaks the JSON API to the real, unmodified google-cloud-storage client.

    from tests.emulators.storage import StorageEmulator

    with StorageEmulator(tmp_path / "storage") as storage:
        storage.endpoint                              # for STORAGE_EMULATOR_HOST; storage.env has all variables
        storage.bucket("reef")                        # made past the wire; or by the client
        storage.requests.clear(); ...; len(storage.requests); storage.count()["storage.objects.insert"]
        storage.faults.add("503", on="storage.objects.insert", times=2)
        storage.objects("reef")["runs/1/LATEST.json"].generation      # .metageneration .content.read() .fields
        storage.put("reef", "name", b"...")           # another writer; .swap(...), .rot(...): what must be caught
        storage.settings.page_limit = 3               # and tokens, writes_per_second, upload_seconds, ...

`python -m tests.emulators.storage`, from the repository's root, starts one for a person or a benchmark; `settings` and
`faults` say what can be set and what can go wrong, `wire.admin` how that is done from another process.

What is there: buckets; objects with generation and metageneration; all four preconditions and those of a copy's source;
media, multipart and resumable uploads (308 with Range, questions, resent bytes, cuts kept to 256 KiB, expiry, cancel,
the size announced, one session taken over by a later request); crc32c and md5 computed from what arrived and checked
against what the client claims; downloads with x-goog-hash, ranges and generations; `fields`; listing with prefix,
delimiter, offsets and page tokens; patch, update, delete, compose, copy, rewrite; batch; bearer tokens; Google's shapes
of errors. Everything is strongly consistent, listings too, as on the real service. Bytes lie in files and are streamed.

What the client does by itself, and a count of requests must allow for (google-cloud-storage 3.17.1): once for each
Client and bucket it asks, in a thread of its own and at any moment, for the bucket's metadata (`storage.buckets.get`),
unless `client.get_bucket` came before. Uploads of known size up to 8 MiB are one request, larger ones two and more. Of
uploads it misspells `ifMetaGenerationNotMatch`, which gets 501 here.

What it does not show, and no test on it can:

- Another API: the XML API (so `upload_chunks_concurrently`), gRPC, signed URLs. Versioned buckets, soft delete, holds,
  retention, ACLs, IAM policies, customer keys, notifications, folders. All are answered with 501, and so is every query
  parameter that is not known here: nothing is passed over in silence.
- Latency, real bandwidth, quotas and prices; decompressing gzip on the way out (501 where a client would need it).
- How Google's servers behave where nobody could look: nothing here was checked against the real service. What it says
  and does comes from Google's documentation, the client's source and Google's own storage-testbench; `agreement`
  compares it with the testbench, case by case, and names each difference with its reason.
- It is no sandbox: whoever reaches its port may read and write everything, `/_emulator` included.
"""

from tests.emulators.storage.emulator import StorageEmulator
from tests.emulators.storage.settings import Settings

__all__ = ["Settings", "StorageEmulator"]
