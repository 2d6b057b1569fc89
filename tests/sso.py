"""Single sign-on for tests: a real identity provider (OpenID Connect), and a real auth proxy that logs people in with it.

The auth proxy is Apache with mod_auth_openidc, because OAuth2 Proxy is a Go binary that no package here has. What SkyAuth, the
gateway and the CLI see of it is the same: cookies of its own in the browser, and the person's e-mail address in a header.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.requirements import missing, need_program
from tests.servers import HOST, directory, environment, free_port, start

SESSION_COOKIE: Final = "mod_auth_openidc_session"
_MODULES: Final = Path("/usr/lib/apache2/modules")
_APACHE: Final = "install Debian's apache2 and libapache2-mod-auth-openidc packages"
_WANTED: Final = ("mpm_event", "authn_core", "authz_core", "authz_user", "auth_openidc", "headers", "proxy", "proxy_http")
_CONFIGURATION: Final = """
ServerName {host}
PidFile {home}/apache.pid
ErrorLog {home}/error.log
Mutex file:{home}
User www-data
Group www-data
Listen {host}:{port}
{modules}

OIDCProviderMetadataURL {provider}/.well-known/openid-configuration
OIDCClientID skyauth
OIDCClientSecret known-to-the-test-alone
OIDCCryptoPassphrase made-for-one-test-run
OIDCRedirectURI http://{host}:{port}/oauth2/callback
OIDCScope "openid email"
OIDCRemoteUserClaim email

# What only the auth proxy says.
RequestHeader unset X-Auth-Request-Email early
<Location "/">
	AuthType openid-connect
	Require valid-user
	# Whoever brings a credential of their own, and what the CLI asks before anybody has logged in: SkyAuth judges that.
	OIDCUnAuthAction pass "%{{HTTP:Authorization}} != '' || %{{REQUEST_URI}} in {{ '/api/health', '/api/v1/auth/token' }}"
	RequestHeader set X-Auth-Request-Email "expr=%{{REMOTE_USER}}" "expr=%{{REMOTE_USER}} != ''"
</Location>

ProxyPreserveHost On
ProxySourceAddress {source}
ProxyPass "/oauth2/callback" "!"
ProxyPass "/" "http://{host}:{behind}/" flushpackets=on
"""


@contextmanager
def identity_provider(**people: str) -> Iterator[str]:
    """Run an identity provider that knows these people, e-mail addresses by name; yields its address.

    Whoever types a name at its login page is that person.
    """
    port = free_port()
    known = [json.dumps({"sub": name, "email": email}) for name, email in people.items()]
    program = Path(sys.executable).with_name("oidc-provider-mock")
    command = [str(program), "--port", str(port), *[part for claims in known for part in ("--user-claims", claims)]]
    with directory() as home:
        running = start(command, home / "provider.log", environment())
        try:
            running.wait_for(port)
            yield f"http://{HOST}:{port}"
        finally:
            running.end()


@contextmanager
def auth_proxy(provider: str, *, port: int, behind: int, source: str) -> Iterator[str]:
    """Run the auth proxy on this port, in front of the gateway on the port `behind`, which it reaches from `source`.

    Yields its address, where people log in with the provider.
    """
    program = need_program("apache2", hint=_APACHE)
    if not (_MODULES / "mod_auth_openidc.so").exists():
        missing(f"needs mod_auth_openidc: {_APACHE}")
    with directory() as home:
        home.chmod(0o711)
        modules = "\n".join(f"LoadModule {name}_module {_MODULES}/mod_{name}.so" for name in _WANTED)
        file = home / "apache.conf"
        values = {"host": HOST, "home": home, "port": port, "modules": modules, "provider": provider}
        file.write_text(_CONFIGURATION.format(**values, behind=behind, source=source), encoding="utf-8")
        running = start([program, "-D", "FOREGROUND", "-f", str(file)], home / "apache.log", environment())
        try:
            running.wait_for(port)
            yield f"http://{HOST}:{port}"
        finally:
            running.end()
