"""Who connects, and what is believed of it: the lines of ``haproxy.cfg`` about listening and about who the client is.

| peer                          | X-Forwarded-For an application sees | X-Forwarded-Proto                |
|-------------------------------|-------------------------------------|----------------------------------|
| anybody                       | its own address                     | ``scheme``                       |
| trusted, says it in headers   | the last address that it names      | what it says, http or https      |
| trusted, speaks PROXY         | the address in the PROXY header     | ``scheme``                       |

Whatever else says something of the client (X-Forwarded-Host, Forwarded, X-Real-IP ...) goes, whoever sends it. Called
by config.py.
"""

from innkeeper.gateway.settings import HEADERS, PROXY_PROTOCOL, GatewaySettings

TRUSTED = "trusted.lst"
"""One address block a line."""

_NONE_SAYS_IT = """\
  http-request del-header forwarded -m sub
  http-request del-header x-real -m beg
  http-request del-header x_real -m beg
"""

_PEER = """\
  tcp-request session set-var(sess.source) src,lower
{gone}  http-request add-header X-Forwarded-For %[var(sess.source)]
"""

# `src` is the peer until set-src, then the client; what is no address changes nothing.
_TOLD = """\
  acl trusted src -f {trusted}
  http-request set-var(txn.scheme) req.hdr(x-forwarded-proto,-1),lower if trusted
  http-request set-var(txn.source) req.hdr(x-forwarded-for,-1) if trusted
  http-request set-src var(txn.source) if {{ var(txn.source) -m found }}
{gone}  http-request set-header X-Forwarded-For %[src]
  acl told var(txn.scheme) -m str http https
  http-request set-header X-Forwarded-Proto %[var(txn.scheme)] if told
  http-request set-header X-Forwarded-Proto {scheme} unless told
"""

# Behind what trusted peers told: who was told https would be sent to where he comes from, for ever.
_ENCRYPTED = (
    "  http-request redirect scheme https code 308"
    " if !{ ssl_fc } !{ path_beg /.innkeeper/ } !{ var(txn.scheme) -m str https }\n"
)


def listening(settings: GatewaySettings) -> str:
    """The binds, and the PROXY header where one must come first."""
    lines = [f"  bind {address} proto h1" for address in settings.listen]
    tls = f"proto h1 ssl crt {settings.certificate} alpn http/1.1 ssl-min-ver TLSv1.2"
    lines += [f"  bind {address} {tls}" for address in settings.listen_tls]
    if settings.trusted and settings.trusted_by == PROXY_PROTOCOL:
        lines.append(f"  tcp-request connection expect-proxy layer4 if {{ src -f {TRUSTED} }}")
    return "\n".join(lines)


def probes(settings: GatewaySettings) -> str:
    """A frontend of the gateway's own, where no PROXY header is expected: kubelets, for one, do not speak it."""
    if not settings.listen_probes:
        return ""
    binds = "".join(f"  bind {address} proto h1\n" for address in settings.listen_probes)
    asked = "  http-request deny deny_status 403 unless { path /.innkeeper/healthz /.innkeeper/readyz }\n"
    return f"\nfrontend probes from base\n{binds}{asked}  default_backend agent\n"


def client(settings: GatewaySettings) -> str:
    """The rules that decide what an application is told of its client."""
    redirect = _ENCRYPTED if settings.listen_tls else ""
    if settings.trusted and settings.trusted_by == HEADERS:
        return _TOLD.format(trusted=TRUSTED, gone=_NONE_SAYS_IT, scheme=settings.scheme) + redirect
    return redirect + _PEER.format(gone=_NONE_SAYS_IT)


def told_scheme(settings: GatewaySettings) -> tuple[str, str]:
    """Lines that tell a workspace, and one of the product's own hosts, the scheme, where ``client`` does not.

    For workspaces it is the name of the server: the cheapest way to add a header that is always the same.
    """
    if settings.trusted and settings.trusted_by == HEADERS:
        return "", ""
    own = f"  http-request set-header X-Forwarded-Proto {settings.scheme}\n"
    return "  http-send-name-header X-Forwarded-Proto", own
