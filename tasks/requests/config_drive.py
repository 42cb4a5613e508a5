"""What a guest's cloud-init is told, in nova's and cloud-init's words."""

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    field_validator,
    model_validator,
)

from tasks.requests import Request
from tasks.requests.parts import Part, printable

#: What nova takes at most, in bytes.
USER_DATA_MAX_BYTES: Final = 64 * 1024
_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*")
#: A resolver takes no longer name (RFC 1035).
_HOSTNAME_MAX_LENGTH: Final = 253


class SecretName(Part):
    """A secret, by name: a file of the host, below its HOSTLER_SECRETS_DIR."""

    secret: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")] = Field(
        description="the file's name"
    )


def _small_text(text: str) -> str:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError("Value is no text: it has half of a surrogate pair") from None
    if "\0" in text:
        raise ValueError("Value has a NUL; send binary data as base64")
    if size > USER_DATA_MAX_BYTES:
        raise ValueError(f"Value has {size} bytes, more than {USER_DATA_MAX_BYTES}")
    return text


def _small_base64(text: str) -> str:
    try:
        size = len(b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise ValueError("Value is not base64") from None
    if size > USER_DATA_MAX_BYTES:
        raise ValueError(f"Value has {size} bytes once decoded, more than {USER_DATA_MAX_BYTES}")
    return text


def _hostname(text: str) -> str:
    if len(text) > _HOSTNAME_MAX_LENGTH or not _HOSTNAME.fullmatch(text):
        raise ValueError("Value is no host name: labels of letters, digits and dashes, separated by dots")
    return text


def _told(value: Any) -> Any:  # noqa: ANN401  # whatever was sent
    """What is neither text nor a secret's name is not repeated in any sentence, its keys included."""
    if (
        value is None
        or isinstance(value, str | SecretName)
        or (isinstance(value, Mapping) and set(value) == {"secret"})
    ):
        return value
    raise ValueError('Value is neither text nor {"secret": NAME}')


def _kind(value: Any) -> str:  # noqa: ANN401  # whatever was sent
    return "text" if isinstance(value, str) else "secret"


TextOrSecret = Annotated[
    Annotated[str, AfterValidator(_small_text), Tag("text")] | Annotated[SecretName, Tag("secret")],
    Discriminator(_kind),
    BeforeValidator(_told),
]
Line = Annotated[str, StringConstraints(min_length=1, max_length=16384), AfterValidator(printable)]
MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(printable)]
MetadataValue = Annotated[str, StringConstraints(max_length=255), AfterValidator(printable)]


class ConfigDriveRequest(Request):
    """A guest that is told something by a small disk."""

    config_drive: Literal["nocloud", "openstack", "none"] | None = Field(
        default=None,
        description="layout of the disk that cloud-init reads; null: nocloud if there is anything to tell, else none",
    )
    hostname: Annotated[str, AfterValidator(_hostname)] | None = Field(
        default=None, description="the guest's host name; null: made of the instance's name"
    )
    user_data: TextOrSecret | None = Field(
        default=None,
        description="what cloud-init is to do, at most 64 KiB: text, or a secret of the host by name; shown nowhere",
    )
    user_data_base64: Annotated[str, AfterValidator(_small_base64)] | None = Field(
        default=None, description="instead of user_data: any bytes, in base64; shown nowhere"
    )
    ssh_keys: list[Line] = Field(
        default=[], max_length=64, description="public keys that may log in, each a line of authorized_keys"
    )
    metadata: dict[MetadataKey, MetadataValue] = Field(
        default={}, max_length=128, description="what else the guest may look up, under meta"
    )
    vendor_data: TextOrSecret | None = Field(
        default=None, description="like user_data, from whoever runs the cloud; user data wins; shown nowhere"
    )
    network_config: dict[str, Any] | None = Field(
        default=None, description="with nocloud: the guest's network, in cloud-init's version 1 or 2 (netplan's)"
    )
    network_data: dict[str, Any] | None = Field(
        default=None, description="with openstack: the guest's network, as nova's network_data.json"
    )

    @field_validator("network_config")
    @classmethod
    def _has_version(cls, network: dict[str, Any] | None) -> dict[str, Any] | None:
        if network is not None and str(network.get("version")) not in {"1", "2"}:
            raise ValueError("Value needs its version, 1 or 2")
        return network

    @property
    def layout(self) -> Literal["nocloud", "openstack"] | None:
        """The layout of the disk that it gets, if it gets one."""
        if self.config_drive == "none":
            return None
        return self.config_drive or ("nocloud" if self._told else None)

    @property
    def _told(self) -> str:
        """The first field that tells the guest anything; empty where none does."""
        fields = ("user_data", "user_data_base64", "ssh_keys", "metadata", "vendor_data", "network_config")
        return next((field for field in (*fields, "network_data", "hostname") if getattr(self, field)), "")

    @model_validator(mode="after")
    def _tells_one_way(self) -> Self:
        if self.config_drive == "none" and self._told:
            raise ValueError(f"{self._told} needs a config drive, and config_drive is none")
        if self.user_data is not None and self.user_data_base64 is not None:
            raise ValueError("user_data and user_data_base64 are two ways to say one thing: give one of them")
        if self.network_config is not None and self.layout != "nocloud":
            raise ValueError("network_config goes with config_drive nocloud; openstack has network_data")
        if self.network_data is not None and self.layout != "openstack":
            raise ValueError("network_data goes with config_drive openstack; nocloud has network_config")
        return self
