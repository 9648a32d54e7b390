"""A real Kafka with users: SASL_SSL beside the tests' own listener; what no ACL allows is refused."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from contracts.settings import Settings
from tests.kafka.broker import KafkaBroker, free_ports
from tests.support.kafka_acls import Acl
from tests.support.waiting import HANG_S

PASSWORDS = "password of {}"


class SecuredBroker(KafkaBroker):
    """A broker whose second listener takes users with a password by TLS. `ca_file` signs its certificate.

    The tests' own listener takes no password and permits everything.
    """

    def __init__(self, folder: Path, jars: Path) -> None:
        super().__init__(folder, jars)
        (port,) = free_ports(1)
        folder.mkdir(parents=True, exist_ok=True)
        self.ca_file, self.secured_bootstrap = folder / "ca.pem", f"localhost:{port}"
        key_file = folder / "broker.pem"
        write_certificate(self.ca_file, key_file)
        self._more |= {
            "listeners": f"PLAINTEXT://{self.bootstrap},SASL_SSL://127.0.0.1:{port},"
            f"CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap},SASL_SSL://{self.secured_bootstrap}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": "org.apache.kafka.common.security.scram."
            "ScramLoginModule required;",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(key_file),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "false",
            "super.users": "User:ANONYMOUS",
        }

    def settings_of(self, user: str, **more: Any) -> Settings:
        """Settings of a process that connects as this user."""
        return Settings(
            kafka_bootstrap=self.secured_bootstrap, kafka_security_protocol="SASL_SSL", kafka_ca_file=self.ca_file,
            kafka_username=user, kafka_password=SecretStr(PASSWORDS.format(user)), **more,
        )  # fmt: skip

    def admit(self, acls: list[Acl]) -> None:
        """Create the users of these permissions, and allow them exactly these."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        users = [
            UserScramCredentialUpsertion(user, info, PASSWORDS.format(user).encode())
            for user in sorted({a.user for a in acls})
        ]
        admin: AdminClient = self.admin
        for future in admin.alter_user_scram_credentials(users).values():
            future.result(HANG_S)
        for future in admin.create_acls([_binding(acl) for acl in acls]).values():
            future.result(HANG_S)


def _binding(acl: Acl) -> AclBinding:
    return AclBinding(
        restype=ResourceType[acl.resource.upper()],
        name=acl.name,
        resource_pattern_type=ResourcePatternType.LITERAL,
        principal=f"User:{acl.user}",
        host="*",
        operation=AclOperation[acl.operation.upper()],
        permission_type=AclPermissionType.ALLOW,
    )


def write_certificate(ca_file: Path, key_file: Path) -> None:
    """Write a CA's certificate, and the key and certificate of a broker on localhost that it signs."""
    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests' CA")])

    def certificate(name: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name).issuer_name(ca_name).public_key(public_key).serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        )  # fmt: skip

    ca = (
        certificate(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    broker_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    broker = (
        certificate(broker_name, key.public_key())
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    ca_file.write_bytes(ca.public_bytes(pem))
    key_file.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + broker.public_bytes(pem)
        + ca.public_bytes(pem)
    )
