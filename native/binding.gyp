{
  "targets": [
    {
      "target_name": "patronus_native",
      "sources": [
        "addon/addon.cc",
        "addon/constants.cc",
        "addon/entry_point.cc",
        "addon/ibv_entry_points.cc",
        "addon/signal_watch.cc",
        "ibv/completion_queue.cc",
        "ibv/connection.cc",
        "ibv/device.cc",
        "ibv/event_channel.cc",
        "ibv/library.cc",
        "ibv/queue_pair.cc",
        "soft/channel.cc",
        "soft/completion_queue.cc",
        "soft/connection.cc",
        "soft/descriptor.cc",
        "soft/device.cc",
        "soft/execution.cc",
        "soft/key_table.cc",
        "soft/memory.cc",
        "soft/queue_pair.cc",
        "soft/receive_queue.cc",
        "soft/shm/client_link.cc",
        "soft/shm/control.cc",
        "soft/shm/engine.cc",
        "soft/shm/link_watcher.cc",
        "soft/shm/served_client.cc",
        "soft/shm/unix_server.cc"
      ],
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=8", "NODE_ADDON_API_CPP_EXCEPTIONS"],
      "cflags_cc": ["-std=c++17", "-O2", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror", "-fexceptions"],
      "cflags_cc!": ["-fno-exceptions", "-std=gnu++17", "-std=gnu++20"],
      "cflags!": ["-fno-exceptions"]
    }
  ]
}
