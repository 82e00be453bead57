"""Whatever the state, a new backup gets all of it."""

from __future__ import annotations

from hypothesis import given, settings

from ps_protocol.v1 import replication_pb2
from ps_server.log.state_image import StateImage
from ps_server.replication.image_codec import ImageBuilder, encode_image
from tests.property.durability.state_images import comparable, images


@settings(max_examples=100)
@given(images())
def test_an_image_goes_to_a_backup_and_is_the_same(image: StateImage) -> None:
    builder = ImageBuilder()
    received = None
    for part, buffers in encode_image(image):
        assert received is None
        sent = replication_pb2.ImagePart.FromString(part.SerializeToString())
        received = builder.add(sent, memoryview(b"".join(buffers)))
    assert received is not None
    assert comparable(received) == comparable(image)
