-- Arm or renew the trading state from the database; a lower version never overwrites a higher one.
-- KEYS 1 trading state
-- ARGV 1 state bytes  2 version  3 lease ms  4 '1' to arm, '0' only to renew what stands
--      5 bytes the database was asked about and denies ('' for none): these, and only these, fall to any version
-- Returns 1 when the bytes given stand now, 0 when they do not: not armed yet, or a newer version
-- stands and was left alone.
local standing = redis.pcall('GET', KEYS[1])
if standing == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return 1
end
if ARGV[4] ~= '1' then return 0 end
-- Another type of value (a table here: the error of GET) was never ours and is overwritten.
if type(standing) == 'string' and (ARGV[5] == '' or standing ~= ARGV[5]) then
  local version = string.match(standing, '"version":(%d+)')
  if version and tonumber(version) > tonumber(ARGV[2]) then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return 1
