"""What every test stands on: no network, no telemetry, one thread a library. Set before anything heavy is imported."""

import os

import pytest

from understudy.telemetry import turn_off_telemetry

turn_off_telemetry()
os.environ.update(
    HF_HUB_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    OPENBLAS_NUM_THREADS="1",
)


@pytest.fixture(scope="module")
def ray_cluster():
    """One small cluster for the whole module."""
    from cluster import runtime

    runtime.start(num_cpus=2)
    yield
    runtime.stop()


@pytest.fixture(scope="module")
def s3():
    """A server that speaks S3 on loopback, with one bucket."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket="stage")
        yield "s3://stage"
    server.stop()
