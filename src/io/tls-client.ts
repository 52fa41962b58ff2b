/**
 * TLS towards a broker, and what its failures mean to a user. node:tls takes 25 ms to load: it is loaded
 * only where TLS is asked for, or has to be looked for.
 *
 * Invariant: a failure that only the user can cure is NOT_ALLOWED and is never tried again; a broker that is away is not.
 */
import type { SecureContext, TLSSocket } from 'node:tls'
import { StreamError } from '../base/errors.ts'
import type { TlsClient, TlsOptions } from '../ports/net.ts'
import { netModule, tlsModule } from './lazy-modules.ts'
import { systemCode } from './system-errors.ts'

export interface HostPort {
  readonly host: string
  readonly port: number
}

const PROBE_MS_MAX = 1500

export class RealTlsClient implements TlsClient {
  readonly kind = 'tls'
  private readonly options: TlsOptions
  private readonly context: SecureContext

  /** @throws StreamError CONFIG_INVALID, NOT_ALLOWED (the password of the key) for what is no certificate or key */
  constructor(options: TlsOptions) {
    this.options = options
    this.context = contextOf(options)
  }

  connect({ host, port }: HostPort): TLSSocket {
    const { serverName, verifies } = this.options
    const name = serverName ?? host
    const { connect, checkServerIdentity } = tlsModule()
    return connect({
      host,
      port,
      secureContext: this.context,
      rejectUnauthorized: verifies !== 'none',
      // An IP address is no server name in TLS (RFC 6066).
      ...(netModule().isIP(name) === 0 ? { servername: name } : {}),
      checkServerIdentity: (_, certificate) =>
        verifies === 'all' ? checkServerIdentity(name, certificate) : undefined,
    })
  }

  /** What the end of a link means on which nothing was heard; undefined: the broker may only be away. */
  async whyEnded(place: HostPort, peer: string, error: Error | undefined) {
    if (error instanceof StreamError) return undefined
    const known = tlsFailure(error, peer, this.options.certificate !== undefined)
    if (known !== undefined) return known
    if (systemCode(error) === 'ECONNREFUSED') return undefined
    if (this.options.certificate !== undefined && (await this.isHungUpOn(place))) {
      return notAllowed(peer, refusesOurs, error)
    }
    return (await speaksInClear(place)) ? notAllowed(peer, noTls, undefined) : undefined
  }

  /** A server that judges certificates only behind the handshake (as node:tls does) hangs up, and says nothing. */
  private isHungUpOn(place: HostPort): Promise<boolean> {
    return new Promise((resolve) => {
      const socket = this.connect(place)
      let isSecure = false
      const done = (isHungUp: boolean): void => {
        socket.destroy()
        resolve(isHungUp)
      }
      socket.setTimeout(PROBE_MS_MAX, () => done(false))
      socket.once('secureConnect', () => {
        isSecure = true
      })
      socket.once('error', () => done(isSecure))
      socket.once('close', () => done(isSecure))
      socket.resume()
    })
  }
}

function contextOf({ ca, certificate, key, keyPassword }: TlsOptions): SecureContext {
  try {
    return tlsModule().createSecureContext({
      minVersion: 'TLSv1.2',
      ...(ca === undefined ? {} : { ca: Buffer.from(ca) }),
      ...(certificate === undefined ? {} : { cert: Buffer.from(certificate) }),
      ...(key === undefined ? {} : { key: Buffer.from(key) }),
      ...(keyPassword === undefined ? {} : { passphrase: keyPassword }),
    })
  } catch (error) {
    throw contextFailure(error)
  }
}

function contextFailure(error: unknown): StreamError {
  const code = systemCode(error) ?? ''
  if (/BAD_DECRYPT|BAD_PASSWORD|PASSWORD|INTERRUPTED/.test(code)) {
    return new StreamError(
      'NOT_ALLOWED',
      'ssl.key.location: its password does not fit, or is missing',
      {
        hint: 'name where the password is: the secret ssl.key.password of the context',
      },
    )
  }
  if (code === 'ERR_OSSL_X509_KEY_VALUES_MISMATCH') {
    return new StreamError(
      'CONFIG_INVALID',
      'ssl.key.location is not the key of ssl.certificate.location',
    )
  }
  return new StreamError(
    'CONFIG_INVALID',
    `ssl.ca.location, ssl.certificate.location or ssl.key.location: not a PEM file of the kind that is needed (${code})`,
  )
}

interface Meaning {
  readonly what: string
  readonly hint: string
}

const unknownAuthority: Meaning = {
  what: 'its certificate comes from an authority that is not trusted here',
  hint: "name the file of the broker's authority: -X ssl.ca.location=FILE",
}
const noTls: Meaning = {
  what: 'it does not speak TLS there',
  hint: 'name its TLS port; or, for a listener in clear text: -X security.protocol=PLAINTEXT (SASL_PLAINTEXT with a login)',
}
const refusesOurs: Meaning = {
  what: 'it does not accept the certificate of this client',
  hint: 'check ssl.certificate.location: whose authority it is of, and that it has not expired',
}
const wantsOurs: Meaning = {
  what: 'it lets in only who shows a certificate',
  hint: 'name one and its key: -X ssl.certificate.location=FILE -X ssl.key.location=FILE',
}
const noCommonWay: Meaning = {
  what: 'it offers no version or cipher of TLS that is safe enough',
  hint: 'TLS 1.2 is the least that is taken; its administrator has to allow it',
}

const meanings: Readonly<Record<string, Meaning>> = {
  CERT_HAS_EXPIRED: {
    what: 'its certificate has expired',
    hint: 'its administrator has to renew it; or is the clock of this host wrong?',
  },
  CERT_NOT_YET_VALID: {
    what: 'its certificate is not valid yet',
    hint: 'is the clock of this host wrong?',
  },
  CERT_REVOKED: { what: 'its certificate was revoked', hint: 'ask its administrator' },
  SELF_SIGNED_CERT_IN_CHAIN: unknownAuthority,
  DEPTH_ZERO_SELF_SIGNED_CERT: unknownAuthority,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: unknownAuthority,
  UNABLE_TO_GET_ISSUER_CERT: unknownAuthority,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: unknownAuthority,
  CERT_UNTRUSTED: unknownAuthority,
  INVALID_CA: unknownAuthority,
  CERT_SIGNATURE_FAILURE: unknownAuthority,
  ERR_SSL_WRONG_VERSION_NUMBER: noTls,
  ERR_SSL_PACKET_LENGTH_TOO_LONG: noTls,
  ERR_SSL_HTTP_REQUEST: noTls,
  ERR_SSL_BAD_RECORD_TYPE: noTls,
  ERR_SSL_UNEXPECTED_MESSAGE: noTls,
  ERR_SSL_UNSUPPORTED_PROTOCOL: noCommonWay,
}

/** What the peer says in its last message, whatever version of TLS OpenSSL names it after. */
const alerts: Readonly<Record<string, Meaning>> = {
  PROTOCOL_VERSION: noCommonWay,
  INSUFFICIENT_SECURITY: noCommonWay,
  HANDSHAKE_FAILURE: {
    what: 'it broke the TLS handshake off: no cipher in common, or it wants a certificate',
    hint: 'if it lets in only who shows one: -X ssl.certificate.location=FILE -X ssl.key.location=FILE',
  },
  CERTIFICATE_REQUIRED: wantsOurs,
  BAD_CERTIFICATE: refusesOurs,
  UNSUPPORTED_CERTIFICATE: refusesOurs,
  CERTIFICATE_REVOKED: refusesOurs,
  CERTIFICATE_EXPIRED: refusesOurs,
  CERTIFICATE_UNKNOWN: refusesOurs,
  UNKNOWN_CA: refusesOurs,
  ACCESS_DENIED: refusesOurs,
  UNRECOGNIZED_NAME: {
    what: 'it has no certificate of that name',
    hint: 'check the address, or name another: -X ssl.server.name=NAME',
  },
}

/** What a failed TLS link means; undefined: nothing of TLS, the peer may only be away. */
function tlsFailure(
  error: unknown,
  peer: string,
  showsCertificate: boolean,
): StreamError | undefined {
  const code = tlsCode(error)
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') return nameFailure(error as Error, peer)
  const alert = alerts[/_(?:ALERT|TLSV1(?:_ALERT)?)_(\w+)$/.exec(code)?.[1] ?? '']
  // A peer that was shown no certificate may call even that a bad one.
  const ofAlert = alert === refusesOurs && !showsCertificate ? wantsOurs : alert
  const meaning = meanings[code] ?? ofAlert
  if (meaning !== undefined) return notAllowed(peer, meaning, error)
  if (!/^ERR_(SSL|TLS)_|^CERT_|CERT/.test(code)) return undefined
  return notAllowed(
    peer,
    { what: `the TLS handshake failed (${code})`, hint: 'see what its log says' },
    error,
  )
}

/** Where something was to be written meanwhile, OpenSSL's reason is only in the words of an EPROTO. */
function tlsCode(error: unknown): string {
  const code = systemCode(error) ?? ''
  if (code !== 'EPROTO') return code
  const reason = /:SSL routines:[^:]*:([^:]+):/.exec((error as Error).message)?.[1]
  return reason === undefined ? code : `ERR_SSL_${reason.toUpperCase().replace(/\W+/g, '_')}`
}

export function onlyTlsFailure(peer: string): StreamError {
  return notAllowed(
    peer,
    {
      what: 'it speaks only TLS there',
      hint: 'ask for it: -X security.protocol=SSL (SASL_SSL with a login), with ssl.ca.location=FILE for an authority of your own',
    },
    undefined,
  )
}

function nameFailure(error: Error, peer: string): StreamError {
  const { cert } = error as { cert?: { subjectaltname?: string; subject?: { CN?: string } } }
  const names = (cert?.subjectaltname ?? cert?.subject?.CN ?? '')
    .replace(/(DNS|IP Address):/g, '')
    .replace(/[^\x20-\x7e]/g, '?')
    .slice(0, 200)
  return notAllowed(
    peer,
    {
      what: `its certificate is of another name: ${names === '' ? 'it has none' : names}`,
      hint: 'use that name in the address; or, if it is the right broker: -X ssl.server.name=NAME',
    },
    error,
  )
}

function notAllowed(peer: string, { what, hint }: Meaning, cause: unknown): StreamError {
  return new StreamError('NOT_ALLOWED', `${peer}: ${what}`, {
    target: peer,
    hint,
    ...(cause === undefined ? {} : { cause }),
  })
}

/** An ApiVersions request of version 0, which every Kafka broker answers in clear text. */
const apiVersionsRequest = Buffer.from('0000000a00120000534d5450ffff', 'hex')
const CORRELATION_ID = 0x534d5450

/** Whether a Kafka broker answers there in clear text; asked when it hung up on a TLS handshake. */
export function speaksInClear(place: HostPort): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = netModule().connect({ host: place.host, port: place.port })
    let heard = Buffer.alloc(0)
    const done = (speaks: boolean): void => {
      socket.destroy()
      resolve(speaks)
    }
    socket.setTimeout(PROBE_MS_MAX, () => done(false))
    socket.once('error', () => done(false))
    socket.once('close', () => done(false))
    socket.on('data', (bytes) => {
      heard = Buffer.concat([heard, bytes])
      if (heard.length >= 8) done(heard.readInt32BE(4) === CORRELATION_ID)
    })
    socket.write(apiVersionsRequest)
  })
}

/** Whether a TLS server answers there; asked when a broker hung up on a request in clear text. Nothing is told to it. */
export function speaksTls(place: HostPort): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = tlsModule().connect({
      host: place.host,
      port: place.port,
      rejectUnauthorized: false,
    })
    const done = (speaks: boolean): void => {
      socket.destroy()
      resolve(speaks)
    }
    socket.setTimeout(PROBE_MS_MAX, () => done(false))
    socket.once('secureConnect', () => done(true))
    socket.once('error', (error) => done(/_ALERT_/.test(systemCode(error) ?? '')))
    socket.once('close', () => done(false))
  })
}
