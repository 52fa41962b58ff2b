/** Certificates of Kafka doors and their clients for tests, by openssl; made anew for each run. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']

export interface CertificateFiles {
  readonly certificate: string
  readonly key: string
}

export class KafkaCertificates {
  readonly directory: string
  readonly ca: string
  /** An authority that has signed nothing. */
  readonly otherCa: string

  constructor(base: string) {
    this.directory = mkdtempSync(join(base, 'pki-'))
    this.ca = this.#authority('ca')
    this.otherCa = this.#authority('other')
  }

  /** @param options.days  negative: it has expired */
  issue(
    name: string,
    options: { readonly names?: string; readonly days?: number; readonly by?: 'ca' | 'other' } = {},
  ): CertificateFiles {
    const { names = 'DNS:localhost,IP:127.0.0.1', days = 2, by = 'ca' } = options
    this.#openssl(
      'req',
      ...curve,
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.csr`,
      '-subj',
      `/CN=${name}`,
    )
    writeFileSync(this.#path(`${name}.ext`), `subjectAltName=${names}\n`)
    this.#openssl(
      ...['x509', '-req', '-in', `${name}.csr`, '-CA', `${by}.pem`, '-CAkey', `${by}.key`],
      ...['-CAcreateserial', '-days', `${days}`, '-extfile', `${name}.ext`, '-out', `${name}.pem`],
    )
    return { certificate: this.#path(`${name}.pem`), key: this.#path(`${name}.key`) }
  }

  /** The same key with a password. */
  lockKey(files: CertificateFiles, password: string): string {
    const path = `${files.key}.locked`
    writeFileSync(`${path}.pw`, password, { mode: 0o600 })
    this.#openssl('pkcs8', '-topk8', '-in', files.key, '-out', path, '-passout', `file:${path}.pw`)
    return path
  }

  #authority(name: string): string {
    this.#openssl(
      'req',
      '-x509',
      ...curve,
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.pem`,
      '-days',
      '2',
      '-subj',
      `/CN=${name}`,
    )
    return this.#path(`${name}.pem`)
  }

  #path(name: string): string {
    return join(this.directory, name)
  }

  #openssl(...words: readonly string[]): void {
    execFileSync('openssl', words, { cwd: this.directory, stdio: ['ignore', 'ignore', 'pipe'] })
  }
}
