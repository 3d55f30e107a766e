"""What a device reads from the bucket for models: the same repository that it is pushed pieces of.

The only place where code on a device meets AWS besides the service's uploads (docs/adr/0010). Nothing that is read
here is believed: python-tuf, or a digest that it vouches for, comes after it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from ..errors import TwinopsError
from .clients import client

PREFIX = "tuf/"
CHUNK_BYTES = 1 << 16
MISSING = ("NoSuchKey", "NoSuchBucket", "404", "403", "AccessDenied")
"""S3 says "access denied" of what does not exist to somebody who may not list."""


class OfflineError(TwinopsError):
    """The bucket did not answer; nothing is wrong with the device."""


class MissingError(TwinopsError):
    """The bucket does not have it."""


class Bucket:
    """The repository below ``tuf/``, at most ``bandwidth_kib_s`` of it (0: no limit), for at most ``deadline_s``."""

    def __init__(self, name: str, *, bandwidth_kib_s: float, deadline_s: float) -> None:
        self.name = name
        self.bytes_read = 0
        self._bandwidth_kib_s = bandwidth_kib_s
        self._give_up = time.monotonic() + deadline_s
        try:
            self._client = client("s3")
        except (BotoCoreError, ValueError) as error:
            raise TwinopsError(f"s3://{name}: {error}; expected AWS_REGION in edge_aws_environment") from error

    def read(self, path: str, start: int = 0) -> Iterator[bytes]:
        """The bytes of ``path`` from ``start`` on.

        :raises MissingError: there is no such object
        :raises OfflineError: no answer, or not in time
        """
        wanted: Mapping[str, Any] = {"Range": f"bytes={start}-"} if start else {}
        try:
            answer = self._client.get_object(Bucket=self.name, Key=PREFIX + path, **wanted)
            with answer["Body"] as body:
                yield from self._paced(body, path)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            kind = MissingError if code in MISSING else OfflineError
            raise kind(f"s3://{self.name}/{PREFIX}{path}: {error}") from error
        except (BotoCoreError, HTTPError, OSError) as error:
            raise OfflineError(f"s3://{self.name}/{PREFIX}{path}: {error}") from error

    def _paced(self, body: Any, path: str) -> Iterator[bytes]:
        began, count = time.monotonic(), 0
        # What there is, at most a chunk: who sends a byte now and then must not keep us from looking at the clock.
        while chunk := body.read1(CHUNK_BYTES):
            count += len(chunk)
            self.bytes_read += len(chunk)
            if self._bandwidth_kib_s:
                time.sleep(max(0.0, began + count / (self._bandwidth_kib_s * 1024) - time.monotonic()))
            if time.monotonic() > self._give_up:
                raise OfflineError(f"s3://{self.name}/{PREFIX}{path}: too slow; the next pull goes on from here")
            yield bytes(chunk)
