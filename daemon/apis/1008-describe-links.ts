/** DescribeLinks (1008), private: links, their topics, and how the partitions do that are led here. */

import type { Handler } from './handler.ts'

export const describeLinks: Handler<'DescribeLinks'> = (
  { broker, links },
  _context,
  { names },
) => ({
  clusterId: broker.clusterId,
  links: links.describe(names === null ? undefined : new Set(names)),
})
