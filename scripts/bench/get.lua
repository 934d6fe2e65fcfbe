-- GETs of the records that the benchmark has put, in a shuffled order. Requests are made once, at the start.
local requests = {}
local at = 0

function init(args)
  local records = tonumber(args[1])
  math.randomseed(1)
  for i = 1, records do
    requests[i] = wrk.format("GET", string.format("/v1/kv/user%012d", i - 1))
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
