"""The Python SDK: ask "does this user see it?" from memory, or over HTTP.

    from huidu.sdk import Client

    client = Client("http://localhost:8000", "hd_server_...", held=True)
    client.visible("weilidai", "openid-42")

`Client` answers from a snapshot in this process, `RemoteClient` asks the platform each time. The
OpenFeature provider is in `huidu.sdk.provider`, help for tests in `huidu.sdk.testing`.
"""

from huidu.sdk.client import Client
from huidu.sdk.remote import RemoteClient

__all__ = ["Client", "RemoteClient"]
