-- PUTs of new values to the same records, in a shuffled order. Requests are made once, at the start.
local requests = {}
local at = 0

function init(args)
  local records = tonumber(args[1])
  local headers = { ["Content-Type"] = "application/octet-stream" }
  local body = string.rep("w", tonumber(args[2]))
  math.randomseed(1)
  for i = 1, records do
    requests[i] = wrk.format("PUT", string.format("/v1/kv/user%012d", i - 1), headers, body)
  end
  for i = records, 2, -1 do
    local j = math.random(i)
    requests[i], requests[j] = requests[j], requests[i]
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end
