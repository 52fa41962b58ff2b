/**
 * All that is used of gRPC's packages. A bundle of its own (build/build.mjs), which only a daemon of a cluster loads: it is
 * half as large as the daemon.
 */
export {
  Client,
  connectivityState,
  credentials,
  logVerbosity,
  Metadata,
  setLogVerbosity,
  status,
} from '@grpc/grpc-js'
export { fromJSON } from '@grpc/proto-loader'
