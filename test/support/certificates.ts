/** Certificates for tests, by openssl. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** A CA, a server's certificate for `etcd.test` and 127.0.0.1, one for the name alone, a client's, and a CA that has signed none. */
export function makeCertificates(base: string) {
  const made = mkdtempSync(join(base, 'tls-'))
  const path = (name: string): string => join(made, name)
  const openssl = (...words: string[]): unknown =>
    execFileSync('openssl', words, { stdio: ['ignore', 'ignore', 'pipe'] })
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  for (const name of ['ca', 'other']) {
    openssl(
      'req',
      '-x509',
      ...curve,
      '-keyout',
      path(`${name}.key`),
      '-out',
      path(`${name}.pem`),
      '-days',
      '2',
      '-subj',
      `/CN=${name}`,
    )
  }
  for (const [name, use] of [
    ['server', 'serverAuth'],
    ['name', 'serverAuth'],
    ['client', 'clientAuth'],
  ] as const) {
    openssl(
      'req',
      ...curve,
      '-keyout',
      path(`${name}.key`),
      '-out',
      path(`${name}.csr`),
      '-subj',
      `/CN=${name}`,
    )
    writeFileSync(
      path(`${name}.ext`),
      `subjectAltName=DNS:etcd.test${name === 'name' ? '' : ',IP:127.0.0.1'}\nextendedKeyUsage=serverAuth,${use}\n`,
    )
    openssl(
      'x509',
      '-req',
      '-in',
      path(`${name}.csr`),
      '-CA',
      path('ca.pem'),
      '-CAkey',
      path('ca.key'),
      '-CAcreateserial',
      '-out',
      path(`${name}.pem`),
      '-days',
      '2',
      '-extfile',
      path(`${name}.ext`),
    )
  }
  return {
    ca: path('ca.pem'),
    otherCa: path('other.pem'),
    certificate: path('server.pem'),
    key: path('server.key'),
    nameOnlyCertificate: path('name.pem'),
    nameOnlyKey: path('name.key'),
    clientCertificate: path('client.pem'),
    clientKey: path('client.key'),
  }
}
