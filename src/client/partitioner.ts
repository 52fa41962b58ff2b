/** The partitioner lies in src/record, where the daemon's line door can use it too; clients know it by this name. */
export { crc32, murmur2, type PartitionerName, partitionForKey } from '../record/partitioner.ts'
